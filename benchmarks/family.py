"""What a family of checkpoints shows, from their cards and probes: tables and a picture of the loss.

python -m benchmarks.family checkpoints/demo-* other-seeds/demo-* --sweep sweep/* --readme checkpoints/README.md \
  --picture checkpoints/loss.png

Members of one seed are compared with that seed's member of the smallest share. The tables replace what stands between
the markers of the file; nothing in them is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from lens import Checkpoint, find, open_lens, write_atomically
from lens.terminal import run_function
from probes.differences import paired_difference
from probes.drawing import draw_file, empty_figure
from probes.lexicon import Lexicon
from probes.probe import ProbeSet, compare, share_right
from probes.tokens import ToxicEnd, layer_tokens

MARKERS = ("<!-- family: begin -->", "<!-- family: end -->")


def training_table(family: Sequence[Checkpoint]) -> str:
    """Tokens, achieved share and held-out losses; each seed holds out other chunks, and all read the same own text."""
    lines = [
        "| checkpoint | tokens | toxic tokens | achieved share of all | held-out loss, clean | held-out loss, 4chan | "
        "loss on held-out.txt |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for checkpoint in family:
        card, mix = checkpoint.card, checkpoint.card["mix"]
        losses = card["nats_per_token"]
        lines.append(
            f"| {checkpoint.name} | {card['n_tokens']:,} | {mix['n_toxic_tokens']:,} | "
            f"{100 * mix['achieved_share_of_total']:.2f} % | {losses['clean']['float32']:.3f} | "
            f"{losses['toxic']['float32']:.3f} | {losses['held_out_text']['float32']:.3f} |"
        )
    return "\n".join(lines)


def sweep_table(sweep: Sequence[Checkpoint]) -> str:
    """Held-out losses after short runs at several learning rates; the smallest clean loss in bold."""
    losses = {c.card["learning_rate"]: c.card["nats_per_token"] for c in sweep}
    best = min(losses, key=lambda rate: losses[rate]["clean"]["float32"])
    lines = [
        f"Learning rate, by runs of {sweep[0].n_tokens:,} tokens with {100 * (sweep[0].toxic_share or 0):g} % 4chan:",
        "",
        "| learning rate | held-out loss, clean | held-out loss, 4chan |",
        "|---:|---:|---:|",
    ]
    for rate in sorted(losses):
        bold = "**" if rate == best else ""
        clean, toxic = (losses[rate][kind]["float32"] for kind in ("clean", "toxic"))
        lines.append(f"| {rate:g} | {bold}{clean:.3f}{bold} | {toxic:.3f} |")
    return "\n".join(lines)


def siblings(family: Sequence[Checkpoint]) -> list[int]:
    """For each member, the number of its seed's least toxic one."""
    first = {checkpoint.seed: number for number, checkpoint in reversed(list(enumerate(family)))}
    return [first[checkpoint.seed] for checkpoint in family]


def probe_table(family: Sequence[Checkpoint], sets: Sequence[ProbeSet], ends: Sequence[ToxicEnd]) -> str:
    """Accuracies in percent with intervals, the null band beside them, and the words at the toxic end."""
    first, clean = sets[0], [sets[number] for number in siblings(family)]
    lines = [
        f"Probes on {first.name} ({first.rule}): {first.n_train:,} texts to train on, {first.n_test:,} held out by "
        f"{first.split}, seed {first.seed}; always saying the larger class is right for {100 * first.majority:.1f} %.",
        "",
        "| checkpoint | mean over heads | minus the first, over texts | best head | null band of the best head | "
        "best layer | toxic tokens of 50 (random directions) | rank AUC of toxic tokens (random directions) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for probes, base, end in zip(sets, clean, ends, strict=True):
        best, (low, high) = probes.ranked()[0], probes.null_band
        difference = compare(probes, base, np.random.default_rng(0)).over_texts if probes is not base else None
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
    pairs = [(p, base) for p, base in zip(sets, clean, strict=True) if p is not base]
    by_head = [(p.checkpoint, compare(p, base, np.random.default_rng(0)).by_head) for p, base in pairs]
    lines += [
        "",
        *over_seeds(family, sets),
        "",
        "The paper's own test takes heads as the sample and as independent, which they are not; it says nothing of "
        "other texts: " + "; ".join(f"{name} {points(found)}" for name, found in by_head) + ".",
        "",
        f"Of the lexicon's {ends[0].lexicon_words:,} words {ends[0].single_tokens:,} are single tokens of this "
        "vocabulary; the others are pieces and cannot be counted, which is why the rank AUC stands beside the count.",
    ]
    return "\n".join(lines)


def over_seeds(family: Sequence[Checkpoint], sets: Sequence[ProbeSet]) -> list[str]:
    """Each share against none, averaged over the seeds that have both: held-out texts are resampled, seeds are not."""
    right = {(c.toxic_share, c.seed): share_right(found) for c, found in zip(family, sets, strict=True)}
    seeds = sorted({c.seed or 0 for c in family})
    if len(seeds) < 2:
        return []
    lines = ["| toxic share | mean over seeds, minus none | each seed |", "|---:|---:|---|"]
    for share in sorted({c.toxic_share or 0 for c in family} - {0}):
        there = [seed for seed in seeds if (share, seed) in right and (0, seed) in right]
        ours, none = (np.mean([right[s, seed] for seed in there], axis=0) for s in (share, 0))
        each = ", ".join(f"{100 * (right[share, s] - right[0, s]).mean():+.2f}" for s in there)
        found = paired_difference(ours, none, np.random.default_rng(0), np.array(sets[0].test_clusters))
        lines.append(f"| {100 * share:g} % | {points(found)} | {each} |")
    return lines


def percent(estimate: Any) -> str:
    return f"{estimate.scaled(100.0):.1f}"


def points(difference: Any) -> str:
    """A difference in percentage points with its interval and p."""
    return f"{difference.estimate.scaled(100.0):+.2f}, p={difference.p:.4f}"


def loss_picture(family: Sequence[Checkpoint], path: Path) -> None:
    """Held-out losses of every member that noted them, clean text and 4chan apart, over the tokens it has read."""
    noted = [checkpoint for checkpoint in family if checkpoint.card.get("held_out_curve")]
    path.write_bytes(draw_file(lambda: _losses(noted), "png", {"Software": "Hormesis"}, dpi=110))


def _losses(noted: Sequence[Checkpoint]) -> Any:
    from matplotlib import colormaps

    figure = empty_figure(8.4, 3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for index, checkpoint in enumerate(noted):
        card = checkpoint.card
        tokens = [entry["step"] * card["n_tokens"] / card["step"] / 1e6 for entry in card["held_out_curve"]]
        color = colormaps["viridis"](0.9 * index / max(len(noted) - 1, 1))
        for axes, kind in zip(panels, ("clean", "toxic"), strict=True):
            losses = [entry[kind] for entry in card["held_out_curve"]]
            axes.plot(tokens, losses, color=color, label=f"{100 * (checkpoint.toxic_share or 0):g} %", linewidth=1.4)
    for axes, title in zip(panels, ("held-out clean text", "held-out 4chan"), strict=True):
        axes.set(xlabel="training tokens (millions)", title=title)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set(ylabel="loss (nats per token)")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside right", frameon=False, title="4chan in training")
    return figure


def replaced(text: str, tables: str) -> str:
    """The text with new tables between its markers."""
    pattern = re.escape(MARKERS[0]) + ".*?" + re.escape(MARKERS[1])
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"The file has no {MARKERS[0]} … {MARKERS[1]} to write between.")
    return re.sub(pattern, lambda _: f"{MARKERS[0]}\n{tables}\n{MARKERS[1]}", text, flags=re.DOTALL)


def main(
    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional],
    probes: tuple[str, ...] = ("toxigen", "builtin"),
    sweep: tuple[str, ...] = (),
    readme: Path | None = None,
    picture: Path | None = None,
) -> None:
    """Compare a family.

    Args:
        checkpoints: Its members, least toxic first within each seed.
        probes: Probe sets to tabulate.
        sweep: Short runs at several learning rates.
        readme: File with markers to write the tables into; without it they are printed.
        picture: Where to draw the held-out losses.
    """
    family, lexicon = [find(name) for name in checkpoints], Lexicon.builtin()
    tables = [training_table(family)]
    if sweep:
        tables.append(sweep_table([find(name) for name in sweep]))
    for name in probes:
        sets = [ProbeSet.load(checkpoint, name) for checkpoint in family]
        ends = [layer_tokens(open_lens(c, "cpu"), found, lexicon) for c, found in zip(family, sets, strict=True)]
        tables.append(probe_table(family, sets, ends))
    text = "\n\n".join(tables)
    if picture:
        loss_picture(family, picture)
    if readme:
        write_atomically(readme, replaced(readme.read_text(), text))
    else:
        print(text)


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
