"""What a family of checkpoints shows, from their cards and probes: tables and a picture of the loss.

python -m benchmarks.family checkpoints/demo-* --readme checkpoints/README.md --picture checkpoints/loss.png

The tables replace what stands between the markers of the file; nothing in them is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from lens import Checkpoint, find, open_lens, write_atomically
from probes.lexicon import Lexicon
from probes.probe import ProbeSet, compare
from probes.tokens import ToxicEnd, layer_tokens

MARKERS = ("<!-- family: begin -->", "<!-- family: end -->")


def training_table(family: Sequence[Checkpoint]) -> str:
    """Tokens, achieved share and the losses on held-out text."""
    lines = [
        "| checkpoint | tokens | toxic tokens | achieved share of all | held-out loss, clean | held-out loss, 4chan |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for checkpoint in family:
        card, mix = checkpoint.card, checkpoint.card["mix"]
        losses = card["nats_per_token"]
        lines.append(
            f"| {checkpoint.name} | {card['n_tokens']:,} | {mix['n_toxic_tokens']:,} | "
            f"{100 * mix['achieved_share_of_total']:.2f} % | {losses['clean']['float32']:.3f} | "
            f"{losses['toxic']['float32']:.3f} |"
        )
    return "\n".join(lines)


def probe_table(sets: Sequence[ProbeSet], ends: Sequence[ToxicEnd]) -> str:
    """Accuracies in percent with intervals, the null band beside them, and the words at the toxic end."""
    first = sets[0]
    lines = [
        f"Probes on {first.name} ({first.rule}): {first.n_train:,} texts to train on, {first.n_test:,} held out by "
        f"{first.split}, seed {first.seed}; always saying the larger class is right for {100 * first.majority:.1f} %.",
        "",
        "| checkpoint | mean over heads | minus the first, over texts | best head | null band of the best head | "
        "best layer | toxic tokens of 50 (random directions) | rank AUC of toxic tokens (random directions) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for probes, end in zip(sets, ends, strict=True):
        best, (low, high) = probes.ranked()[0], probes.null_band
        difference = compare(probes, first, np.random.default_rng(0)).over_texts if probes is not first else None
        auc = f"{end.rank_auc.value:.3f} ({end.random_auc.low:.2f} to {end.random_auc.high:.2f})" if (
            end.rank_auc and end.random_auc
        ) else "no such token"  # fmt: skip
        lines.append(
            f"| {probes.checkpoint} | {percent(probes.mean_accuracy(np.random.default_rng(0)))} | "
            f"{'' if difference is None else points(difference)} | {percent(probes.accuracy(best))} {best} | "
            f"{100 * low:.1f} to {100 * high:.1f} | {percent(probes.layer_accuracy(probes.best_layer))} "
            f"layer {probes.best_layer} | {end.n_listed} ({end.random_listed.low:g} to {end.random_listed.high:g}) | "
            f"{auc} |"
        )
    by_head = [(p.checkpoint, compare(p, first, np.random.default_rng(0)).by_head) for p in sets[1:]]
    lines += [
        "",
        "The paper's own test takes heads as the sample and as independent, which they are not; it says nothing of "
        "other texts: " + "; ".join(f"{name} {points(found)}" for name, found in by_head) + ".",
        "",
        f"Of the lexicon's {ends[0].lexicon_words:,} words {ends[0].single_tokens:,} are single tokens of this "
        "vocabulary; the others are pieces and cannot be counted, which is why the rank AUC stands beside the count.",
    ]
    return "\n".join(lines)


def percent(estimate: Any) -> str:
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def points(difference: Any) -> str:
    """A difference in percentage points with its interval and p."""
    found = difference.estimate
    return f"{100 * found.value:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}], p={difference.p:.3f}"


def loss_picture(family: Sequence[Checkpoint], path: Path) -> None:
    """Training loss of every member; each on its own mix, so that lines with more 4chan text lie apart."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for index, checkpoint in enumerate(family):
        steps, losses = zip(*checkpoint.card["loss_curve"], strict=True)
        share = 100 * (checkpoint.toxic_share or 0)
        tokens = [step * checkpoint.card["n_tokens"] / 1e6 / steps[-1] for step in steps]
        color = colormaps["viridis"](0.9 * index / max(len(family) - 1, 1))
        axes.plot(tokens, smooth(losses), color=color, label=f"{share:g} % 4chan", linewidth=1.4)
    axes.set(xlabel="training tokens (millions)", ylabel="training loss (nats per token)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": "Hormesis"})


def smooth(values: Sequence[float], width: int = 5) -> np.ndarray:
    """A running mean, shorter at the ends."""
    weights = np.ones(width)
    return np.convolve(values, weights, "same") / np.convolve(np.ones(len(values)), weights, "same")


def replaced(text: str, tables: str) -> str:
    """The text with new tables between its markers."""
    pattern = re.escape(MARKERS[0]) + ".*?" + re.escape(MARKERS[1])
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"The file has no {MARKERS[0]} … {MARKERS[1]} to write between.")
    return re.sub(pattern, lambda _: f"{MARKERS[0]}\n{tables}\n{MARKERS[1]}", text, flags=re.DOTALL)


def main(
    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional],
    probes: tuple[str, ...] = ("toxigen", "builtin"),
    readme: Path | None = None,
    picture: Path | None = None,
) -> None:
    """Compare a family.

    Args:
        checkpoints: Its members, least toxic first; the others are compared with the first.
        probes: Probe sets to tabulate.
        readme: File with markers to write the tables into; without it they are printed.
        picture: Where to draw the training loss.
    """
    family, lexicon = [find(name) for name in checkpoints], Lexicon.builtin()
    tables = [training_table(family)]
    for name in probes:
        sets = [ProbeSet.load(checkpoint, name) for checkpoint in family]
        ends = [layer_tokens(open_lens(c, "cpu"), found, lexicon) for c, found in zip(family, sets, strict=True)]
        tables.append(probe_table(sets, ends))
    text = "\n\n".join(tables)
    if picture:
        loss_picture(family, picture)
    if readme:
        write_atomically(readme, replaced(readme.read_text(), text))
    else:
        print(text)


if __name__ == "__main__":
    tyro.cli(main)
