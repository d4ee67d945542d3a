"""What the panels ask of the packages, one call per thing that is shown; each works without a browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress

from lens.bench import NOBODY, Bench
from lens.checkpoint import Checkpoint
from lens.files import to_download
from lens.head import Head
from lens.shown_paths import without_folders
from lens.validate import Refused, one_line
from probes import page
from probes.heatmap import HeadHistogram, Heatmap
from probes.lexicon import Lexicon, mask
from probes.probe import ProbeSet, probe_checkpoint
from probes.store import BrokenProbes, NoProbes, StaleProbes, saved
from probes.text_files import builtin
from probes.tokens import ToxicEnd, head_tokens, layer_tokens

FORMATS = ("png", "svg", "csv", "json")
HEAD_TOKENS = 30
"""Nearest tokens to list for one head."""


def names_of_sets(bench: Bench) -> list[str]:
    return sorted({"builtin", *(name for checkpoint in bench.catalogue.values() for name in saved(checkpoint))})


def fitting_set(bench: Bench, names: Sequence[str | None], wanted: str) -> str:
    """The wanted probe set if the chosen checkpoints have it, else one that they have, else one that can be fitted."""
    chosen = [usable_sets(bench, name) for name in names if name not in (None, NOBODY)]
    for group in (chosen, chosen[:1]):
        common = [name for name in names_of_sets(bench) if group and all(name in sets for sets in group)]
        if wanted in common:
            return wanted
        if common:
            return "toxigen" if "toxigen" in common else common[0]
    return "builtin"


def usable_sets(bench: Bench, name: str) -> list[str]:
    """The probe sets of a checkpoint that can be opened and belong to its weights."""
    checkpoint = bench.checkpoint(name)
    found = []
    for probes in saved(checkpoint):
        with suppress(NoProbes, StaleProbes, BrokenProbes):
            ProbeSet.load(checkpoint, probes)
            found.append(probes)
    return found


def find(bench: Bench, names: Sequence[str], probes: str) -> tuple[dict[str, ProbeSet], list[str]]:
    """The probe sets of those checkpoints by name, and a sentence for each that has none to show."""
    found, missing = {}, []
    for name, checkpoint in chosen_checkpoints(bench, names).items():
        try:
            found[name] = ProbeSet.load(checkpoint, set_name(probes))
        except (NoProbes, StaleProbes, BrokenProbes) as error:
            missing.append(without_folders(str(error), bench.folder))
    return found, missing


def chosen_checkpoints(bench: Bench, names: Sequence[str]) -> dict[str, Checkpoint]:
    """Those that the two menus name, each once."""
    first, *others = names
    return {name: bench.checkpoint(name) for name in [first, *(n for n in others if n not in (None, NOBODY))]}


def set_name(name: object) -> str:
    """The name of a probe set; it becomes a file name, so it may not lead elsewhere."""
    if not re.fullmatch(r"\w[\w.-]*", one_line(name, "the probe set", 100)):
        raise Refused(f"A probe set is named with letters, digits, '-', '_' and '.'; got {str(name)[:40]!r}.")
    return str(name)


def maps_to_save(sets: Sequence[ProbeSet]) -> dict[str, Heatmap]:
    """What can be exported, by the name in the menu; two checkpoints on one colour scale."""
    ends = [end for probes in sets for end in Heatmap.of(probes).scale]
    maps = {probes.checkpoint: Heatmap.of(probes, (min(ends), max(ends))) for probes in sets}
    if len(sets) == 2 and sets[0].grid == sets[1].grid:
        maps["the difference"] = Heatmap.difference(*sets)
    return maps


def written(picture: Heatmap | HeadHistogram, formats: Sequence[str] = FORMATS) -> list[str]:
    """A picture's files."""
    return [to_download(f"{picture.title}.{kind}", getattr(picture, f"to_{kind}")()) for kind in formats]


def fit_missing(bench: Bench, names: Sequence[str], on_progress: Callable[[str, int, int], None]) -> None:
    """Fit the built-in texts on those of the checkpoints that lack such probes, and save them there."""
    for checkpoint in chosen_checkpoints(bench, names).values():
        try:
            ProbeSet.load(checkpoint, "builtin")
        except (NoProbes, StaleProbes, BrokenProbes):
            with bench.pool.lens(checkpoint) as lens:
                probe_checkpoint(lens, builtin(), on_progress=on_progress)


def head_card(bench: Bench, names: Sequence[str], probes: str, head: str, masked: bool) -> str:
    """What there is to know about one head."""
    where = Head.parse(one_line(head, "the head", 20))
    sides = []
    for name, found in find(bench, names, probes)[0].items():
        if where in found.grid:
            with bench.pool.lens(bench.checkpoint(name)) as lens:
                sides.append((found, head_tokens(lens, found, Lexicon.builtin(), where, n=HEAD_TOKENS)))
    if not sides:
        raise Refused(f"None of these checkpoints has a head {where} with probes {probes!r}.")
    return page.head_card(where, sides, mask_for(masked))


def token_lists(bench: Bench, names: Sequence[str], probes: str) -> tuple[list[tuple[ProbeSet, ToxicEnd]], list[str]]:
    """The toxic end of each checkpoint's best layer, and a sentence for each that has no probes."""
    found, missing = find(bench, names, probes)
    sides = []
    for name, probe_set in found.items():
        with bench.pool.lens(bench.checkpoint(name)) as lens:
            sides.append((probe_set, layer_tokens(lens, probe_set, Lexicon.builtin())))
    return sides, missing


def mask_for(masked: object) -> Callable[[str], str]:
    """Stars over the words of the lexicon, or the text as it is."""
    return (lambda text: mask(text, Lexicon.builtin())) if masked is not False else str
