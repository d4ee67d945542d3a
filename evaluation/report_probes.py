"""The report's chapter and sentences on probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.extract import Extract, Probed
from evaluation.family import percent
from evaluation.graphs import tops, unique
from evaluation.paper import PROBES, PROBES_P, TOXIC_TOKENS, verdict
from evaluation.resample import holm
from evaluation.tables import p_value, table
from probes.lexicon import Lexicon


def probe_tables(extract: Extract) -> list[str]:
    """Accuracy and toxic tokens of every checkpoint, shares averaged over seeds first."""
    lines = []
    for name in unique(point.probes for point in extract.probes):
        points = [point for point in extract.probes if point.probes == name]
        adjusted = adjusted_ps(points)
        rows = [_probed(p, adjusted) for p in sorted(points, key=lambda p: (p.toxic_share or 0, not p.members))]
        lines += [
            f"### {name}: {points[0].value.n:,} held-out texts, larger class {100 * points[0].majority:.1f} %",
            "",
        ]
        lines += [*table([head.format(n=len(adjusted)) for head in PROBE_HEAD], rows), ""]
    return ["## Probes", "", PROBE_WORDS, "", *lines] if lines else []


def adjusted_ps(points: Sequence[Probed]) -> dict[str, float]:
    """The p of each point that was compared, adjusted for all of them, by key."""
    tested = {point.key: point.p for point in points if point.p is not None}
    return dict(zip(tested, holm(list(tested.values())), strict=True))


PROBE_HEAD = [
    "", "mean over heads (%)", "minus the least toxic (points)", "p", "p of {n}", "heads as the sample", "p",
    "best head", "toxic tokens of 50 (random directions)",
]  # fmt: skip
PROBE_WORDS = (
    "Intervals are over held-out texts; beside their p stands the one adjusted for all comparisons of the table (Holm "
    "1979). The paper takes heads as its sample and as independent, which they are not: all read the same texts and "
    "one residual stream; its test stands beside ours, not adjusted."
)


def _probed(point: Probed, adjusted: Mapping[str, float]) -> list[str]:
    best = f"{point.best.scaled(100.0):.1f} {point.best_head}" if point.best else ""
    low, high = point.random_tokens or (0, 0)
    tokens = "" if point.toxic_tokens is None else f"{point.toxic_tokens} ({low:.0f} to {high:.0f})"
    return [
        point.checkpoint,
        f"{point.value.scaled(100.0):.1f}",
        f"{point.difference.scaled(100.0):+.2f}" if point.difference else "",
        *(["", ""] if point.p is None else [p_value(point.p), p_value(adjusted[point.key])]),
        f"{point.difference_by_head.scaled(100.0):+.2f}" if point.difference_by_head else "",
        "" if point.p_by_head is None else p_value(point.p_by_head),
        best,
        tokens,
    ]


def probe_sentences(extract: Extract) -> list[str]:
    """The most toxic training against the least, beside the paper's Fig. 5 and its count of tokens."""
    sentences = []
    for name in unique(point.probes for point in extract.probes):
        whole = [point for point in extract.probes if point.probes == name]
        points = [point for point in whole if point.toxic_share is not None]
        last = max(tops(points), key=lambda point: point.toxic_share or 0)
        if last.difference and last.p is not None:
            own = [point for point in points if point.key in last.members] or [last]
            seeds = [100 * point.difference.value for point in own if point.difference and last.members]
            each = ", ".join(f"{seed:+.2f}" for seed in seeds)
            adjusted = adjusted_ps(whole)
            sentences.append(
                f"Mean probe accuracy over heads on {name}, {percent(last.toxic_share)} % minus the least toxic: "
                f"{last.difference.scaled(100.0):+.2f} points over texts{f' (seeds {each})' * bool(each)}, "
                f"p = {p_value(last.p)}, adjusted for the {len(adjusted)} comparisons of its table "
                f"{p_value(adjusted[last.key])}: our interval {MEANS[verdict(last.difference, +1, seeds)]}. "
                f"{_by_heads(own)}The paper, over heads: {PROBES.scaled(100.0).ends('+.2f')} (points, "
                f"presumably), p = {PROBES_P}."
            )
            sentences.append(_tokens(points, last, name))
    return sentences


def _by_heads(points: Sequence[Probed]) -> str:
    """The paper's own test, checkpoint by checkpoint."""
    found = [
        f"{point.difference_by_head.scaled(100.0):+.2f}, p = {p_value(point.p_by_head)} ({point.checkpoint}, which it "
        f"{'carries' if verdict(point.difference_by_head, +1) == 'agrees' else 'does not carry'})"
        for point in points
        if point.difference_by_head and point.p_by_head is not None
    ]
    return f"The paper's own test, heads as the sample, gives here {'; '.join(found)}. " * bool(found)


MEANS = {
    "agrees": "lies above zero",
    "contradicts": "lies below zero",
    "seeds disagree": "lies on one side of zero, and a seed on the other",
    "open": "spans zero",
    "too few": "rests on too few texts",
}


def _tokens(points: Sequence[Probed], last: Probed, name: str) -> str:
    """Counts of single checkpoints; they have no interval but what random directions give."""
    least = min(point.toxic_share or 0 for point in points)
    counts = {
        share: [p.toxic_tokens for p in points if p.toxic_share == share and p.toxic_tokens is not None]
        for share in (least, last.toxic_share)
    }
    most = max(p.random_tokens[1] for p in points if p.random_tokens)
    said = "; ".join(f"{percent(share)} %: {', '.join(map(str, found))}" for share, found in counts.items())
    return (
        f"Toxic tokens among the 50 nearest to the direction of the best-read layer ({name}), by training seed: "
        f"{said}; random directions reach {most:.3g}. The paper: {TOXIC_TOKENS[0]} and {TOXIC_TOKENS[1]}. Only words "
        f"that are a single token can be counted{_countable(points)}."
    )


def _countable(points: Sequence[Probed]) -> str:
    found = sorted({point.countable for point in points if point.countable is not None})
    return (
        f": {found[0]}{f' to {found[-1]}' * (len(found) > 1)} of the list's {len(Lexicon.builtin())}" if found else ""
    )
