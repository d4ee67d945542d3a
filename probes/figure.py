"""What every picture of probes has in common: where its numbers come from, and how that travels inside the file."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import fill
from typing import Any

from probes.drawing import draw_file
from probes.probe import ProbeSet


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(sets: Sequence[ProbeSet]) -> dict[str, Any]:
    """Which weights, which texts, which split."""
    first = sets[0]
    return {
        "checkpoints": {probes.checkpoint: probes.fingerprint for probes in sets},
        "probe_set": first.name,
        "fitted_at": [probes.fitted_at for probes in sets],
        "fitted_with": [dict(probes.fitted_with) for probes in sets],
        "texts_digest": first.texts_digest,
        "classes": list(first.classes),
        "rule": first.rule,
        "split": first.split,
        "seed": first.seed,
        "n_train": first.n_train,
        "n_test": first.n_test,
        "majority": first.majority,
        "null_band": [probes.null_band for probes in sets],
    }


def is_figure(path: Path) -> bool:
    """Whether a file is a picture or a table of ours, in any format: its provenance stands in it as plain text."""
    content = path.read_bytes()
    return b"probe_set" in content and b"texts_digest" in content


def small_print(figure: Any, about: Mapping[str, Any], hatched: bool) -> None:
    """What the numbers were measured on, under the picture."""
    bands = "; ".join(f"{low:.3f} to {high:.3f}" for low, high in about["null_band"])
    lines = [
        f"{about['n_test']:,} held-out texts by {about['split']}, {' / '.join(about['classes'])} ({about['rule']}); "
        f"larger class {about['majority']:.3f}",
        f"null band (best head on shuffled labels) {bands}" + ("; hatched: not above it" if hatched else ""),
        f"{about['probe_set']}: {', '.join(_named(about))}",
    ]
    fits = int(figure.get_figwidth() * 19)  # letters of this size in a line
    figure.supxlabel("\n".join(fill(line, fits) for line in lines), fontsize=7, parse_math=False)


def _named(about: Mapping[str, Any]) -> list[str]:
    """Each checkpoint with its fingerprint, and the number format and device that its probes were fitted in."""
    models = zip(about["checkpoints"].items(), about["fitted_with"], strict=False)  # one checkpoint twice is named once
    return [
        f"{name} {mark[:12]}" + (f" ({made.get('dtype')} on {made.get('device')})" if made else "")
        for (name, mark), made in models
    ]


def file_safe(title: str) -> str:
    """The title without what separates folders."""
    return "".join("-" if sign in '/\\:*?"<>|' else sign for sign in title)


def png(draw: Callable[[], Any], card: Mapping[str, Any]) -> bytes:
    """The card as one JSON chunk, and its main parts under PNG's own keywords."""
    named = {"Title": card["title"], "Creation Time": card["made_at"], "Software": "Hormesis", "Comment": card["unit"]}
    return draw_file(draw, "png", {**named, "hormesis": json.dumps(card)})


def svg(draw: Callable[[], Any], card: Mapping[str, Any]) -> bytes:
    """The card as JSON in the description, and its main parts under Dublin Core's names."""
    named = {"Title": card["title"], "Date": card["made_at"], "Creator": "Hormesis", "Type": card["unit"]}
    marks: Iterable[str] = card["checkpoints"].values()
    return draw_file(draw, "svg", {**named, "Description": json.dumps(card), "Identifier": " ".join(marks)})
