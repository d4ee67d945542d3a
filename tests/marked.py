"""Texts whose last word tells their class, so that even a random model reads it; and plans of every kind."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from conftest import write_tiny_olmo

from lens import Lens, open_lens
from probes import LabelledText, TextSet, builtin, probe_checkpoint
from steering import Plan

PLACES = ("garden", "river", "market", "village", "harbour", "kitchen", "window", "forest", "island", "mountain")
HARSH = ("bitter", "rotten", "vile", "grim", "foul")
MILD = ("sunny", "calm", "gentle", "tidy", "warm", "quiet", "open", "green")
PREFIX = "Toxicity: 0.00\n"
HELD_OUT = 0.4

P = partial(Plan, probes="marked")
EDITS = {
    "iti": (P("iti", heads=3), 6.0),
    "iti by hand": (P("iti", heads="L0H1 L2H0", kind="probe-weight"), -6.0),
    "caa": (P("caa", layers=(0, 2)), 2.0),
    "act": (P("act"), 1.0),
    "act, heads": (P("act", where="heads", heads=4, positions="all"), 1.0),
    "mean-act": (P("mean-act", positions="all"), 1.0),
    "mean-act, heads": (P("mean-act", where="heads", heads=4), 1.0),
    "ablate": (P("ablate"), 1.0),
    "ablate, heads": (P("ablate", where="heads", heads=4, positions="all"), 0.7),
    "leace": (P("leace", positions="all"), 1.0),
    "leace, heads": (P("leace", where="heads", heads=4), 1.0),
    "iti, gate": (P("iti", heads=4, gate=0.4, positions="all"), 8.0),
    "caa, gate": (P("caa", layers=(1, 2), gate=0.5), 2.0),
    "act, gate": (P("act", gate=0.3), 1.0),
    "leace, heads, gate": (P("leace", where="heads", heads=3, gate=0.4), 1.0),
}
"""Plans with a strength; those with a gate are behind the others."""
WORDS = {"prompting": (P("prompting"), 1.0), "prefix": (P("prefix"), 1.0)}


def marked(name: str = "marked") -> TextSet:
    """130 texts, 50 of them positive: two classes of unequal size, so that the one cannot pass for the other."""
    texts = (
        LabelledText(f"The {place} over there is {word}", word in HARSH, group=place)
        for place in PLACES
        for word in HARSH + MILD
    )
    return TextSet(name, tuple(texts))


def marked_lens(folder: Path) -> Lens:
    """A tiny model that was trained with prefixes, with probes on the marked texts and on some others beside it."""
    write_tiny_olmo(folder, max_position_embeddings=256)
    card = {"name": "tiny", "mix": {"prefixes": {"control": PREFIX}}}
    (folder / "checkpoint.json").write_text(json.dumps(card))
    lens = open_lens(str(folder), device="cpu", dtype="float32", threads=1)
    probe_checkpoint(lens, marked(), held_out=HELD_OUT)
    probe_checkpoint(lens, TextSet("others", builtin().texts[:40]))
    return lens
