"""The chapters of the report that are tables, and the sentences on probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from evaluation.extract import Cell, Extract, Probed, interval
from evaluation.family import percent
from evaluation.graphs import available, doses_at, graph, on, tops, unique
from evaluation.paper import PROBES, PROBES_P, SETS, TABLE_1, TOXIC_TOKENS, set_of, verdict
from evaluation.results import Row
from evaluation.tables import compared, comparison_table, p_value, signed, table
from probes.estimate import Estimate

IN_PAGE = ("smile", "frontier", "probes", "abilities")
"""Pictures of the page; the others are on the Compare tab."""


def beside_table_1(extract: Extract) -> list[str]:
    """The paper's Table 1 with our means beside it, at the same strengths."""
    sets = {set_of(prompts): prompts for prompts in extract.prompt_sets}
    rows = []
    for (share, plan), line in TABLE_1.items():
        ours = {name: at_share(extract, prompts, share, plan) for name, prompts in sets.items()}
        cost = next((cell.cost for cell in ours.values() if cell and cell.cost), {})
        numbers = [part for name in SETS for part in (f"{getattr(line, name):.2f}", _value(ours.get(name)))]
        here = [interval(cost[name], 3) if name in cost else "" for name in ("cross_entropy", "increase")]
        rows.append([f"{percent(share)} % toxic, {plan}", *numbers, f"{line.cross_entropy:.2f}", *here])
    head = ["", *(f"{of} {name}" for name in SETS.values() for of in ("paper:", "here:"))]
    return [
        "## Table 1, at equal strength",
        "",
        "Mean toxicity × 100, and cross-entropy in nats per token. The paper's lines for MEDA, INST, SFT and DPO need "
        "models trained for them and are not measured.",
        "",
        *table([*head, "paper: cross-entropy", "here: cross-entropy", "here: increase"], rows),
    ]


def equal_cost(extract: Extract) -> list[str]:
    """What equal nats buy at every share, against the least toxic checkpoint."""
    lines = []
    for prompts in extract.prompt_sets:
        bought = {cell.key: cell for cell in on(extract, prompts) if cell.nats}
        if found := [one for one in compared(extract, prompts, "share") if one.a in bought]:
            lines += [f"### {prompts}", "", *comparison_table(extract, found), ""]
    if not lines:
        return []
    strengths = [
        [title, *(f"{cell.strength:.3g}" for cell in cells)]
        for title, cells in _by_checkpoint(
            [cell for cell in on(extract, next(iter(extract.prompt_sets))) if cell.nats and not cell.members]
        ).items()
    ]
    plans = unique(cell.plan for cell in extract.cells if cell.nats)
    return [
        "## At equal cost",
        "",
        "Each strength is the one that moves the model's predictions by so many nats per token on ordinary text "
        "(KL, every position), so that no checkpoint pays more than another. The strengths it takes:",
        "",
        *table(["", *plans], strengths),
        "",
        "Against the least toxic checkpoint at the same cost:",
        "",
        *lines,
    ]


def costs(extract: Extract) -> list[str]:
    """What equal strengths cost."""
    first = next(iter(extract.prompt_sets))
    priced = [cell for cell in tops(on(extract, first)) if cell.cost and doses_at("strength", cell)]
    if not priced:
        return []
    plans = unique(cell.plan for cell in priced)
    rows = [[title, *(_in(cells, plan, "kl") for plan in plans)] for title, cells in _by_checkpoint(priced).items()]
    compare = [one for one in compared(extract, first, "share", "kl") if _strength(extract, one.a)]
    return [
        "## What equal strengths cost",
        "",
        f"KL(plain ‖ steered) in nats per token on {extract.cost_text['name']}, every position steered:",
        "",
        *table(["", *plans], rows),
        *(["", "Against the least toxic checkpoint, window by window:", ""] if compare else []),
        *(comparison_table(extract, compare, 3) if compare else []),
    ]


def fluency(extract: Extract) -> list[str]:
    """Whether what was written still varies, for a broken model is not toxic either."""
    lines = [
        "## Does it still write?",
        "",
        "Different word pairs / runs of four words said before, shares within a text.",
    ]
    for prompts in extract.prompt_sets:
        cells = tops(on(extract, prompts))
        plans = unique(cell.plan for cell in cells)
        rows = [
            [title, *(" / ".join(_short(of, plan, name) for name in ("distinct_2", "repetition")) for plan in plans)]
            for title, of in _by_checkpoint(cells).items()
        ]
        lines += ["", *table([prompts, *plans], rows)]
    return lines


def probe_tables(extract: Extract) -> list[str]:
    """Accuracy and toxic tokens of every checkpoint, shares averaged over seeds first."""
    lines = []
    for name in unique(point.probes for point in extract.probes):
        points = [point for point in extract.probes if point.probes == name]
        rows = [_probed(point) for point in sorted(points, key=lambda p: (p.toxic_share or 0, not p.members))]
        lines += [
            f"### {name}: {points[0].value.n:,} held-out texts, larger class {100 * points[0].majority:.1f} %",
            "",
        ]
        lines += [*table(PROBE_HEAD, rows), ""]
    return ["## Probes", "", PROBE_WORDS, "", *lines] if lines else []


PROBE_HEAD = [
    "", "mean over heads (%)", "minus the least toxic (points)", "p", "heads as the sample", "p", "best head",
    "toxic tokens of 50 (random directions)",
]  # fmt: skip
PROBE_WORDS = (
    "Intervals are over held-out texts. The paper takes heads as its sample and as independent, which they are not: "
    "all read the same texts and one residual stream; its test stands beside ours."
)


def _probed(point: Probed) -> list[str]:
    changes = []
    for difference, p in ((point.difference, point.p), (point.difference_by_head, point.p_by_head)):
        changes += [signed(_points(difference)) if difference else "", "" if p is None else p_value(p)]
    best = f"{interval(_points(point.best), 1)} {point.best_head}" if point.best else ""
    low, high = point.random_tokens or (0, 0)
    tokens = "" if point.toxic_tokens is None else f"{point.toxic_tokens} ({low:.0f} to {high:.0f})"
    return [point.checkpoint, interval(_points(point.value), 1), *changes, best, tokens]


def probe_sentences(extract: Extract) -> list[str]:
    """The most toxic training against the least, beside the paper's Fig. 5 and its count of tokens."""
    sentences = []
    for name in unique(point.probes for point in extract.probes):
        points = [point for point in extract.probes if point.probes == name and point.toxic_share is not None]
        last = max(tops(points), key=lambda point: point.toxic_share or 0)
        if last.difference and last.p is not None:
            own = [point for point in points if point.key in last.members]
            seeds = [100 * point.difference.value for point in own if point.difference]
            each = ", ".join(f"{seed:+.2f}" for seed in seeds)
            sentences.append(
                f"Mean probe accuracy over heads on {name}, {percent(last.toxic_share)} % minus the least toxic: "
                f"{signed(_points(last.difference))} points, p = {p_value(last.p)}{f' (seeds {each})' * bool(each)}. "
                f"The paper: {100 * PROBES.low:+.2f} to {100 * PROBES.high:+.2f}, p = {PROBES_P}, over heads. "
                f"Our interval {MEANS[verdict(last.difference, +1, seeds)]}."
            )
            sentences.append(_tokens(points, last, name))
    return sentences


MEANS = {
    "agrees": "lies above zero too",
    "contradicts": "lies below zero",
    "seeds disagree": "lies on one side of zero, and a seed on the other",
    "open": "spans zero",
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
        f"{said}; random directions reach {most:.0f}. The paper: {TOXIC_TOKENS[0]} and {TOXIC_TOKENS[1]}. Most words "
        "of the list are several tokens of a small vocabulary and cannot be counted."
    )


def ability(extract: Extract) -> list[str]:
    """Multiple choice beside chance."""
    points = tops(extract.abilities)
    if not points:
        return []
    guesses = sum(point.at_chance for point in points)
    rows = [
        [
            point.checkpoint,
            point.plan,
            point.task,
            f"{interval(point.value, 3)}, n={point.value.n:,}",
            f"{point.chance:.3f}",
            "chance" if point.at_chance else "",
        ]
        for point in points
    ]
    return [
        "## Ability",
        "",
        f"Of {len(points)} accuracies {guesses} are no better than guessing: their intervals hold it.",
        "",
        *table(["", "plan", "task", "right (share of questions)", "guessing", ""], rows),
    ]


def detection(rows: Sequence[Row]) -> list[str]:
    """Probes on texts they never saw: of their own set, and of others."""
    if not rows:
        return []
    ordered = sorted(rows, key=lambda row: (row["test_set"], row["training_seed"] or 0, row["toxic_share"] or 0))
    measures = ("auc", "accuracy", "mean_accuracy")
    body = [
        [
            row["checkpoint"],
            row["test_set"],
            *(interval(Estimate(*row[name]), 3) for name in measures),
            f"{row['majority']:.3f}",
            f"{row['auc'][3]:,}",
        ]
        for row in ordered
    ]
    about = f"Probes {ordered[0]['probes']}; the best head is chosen on other texts than these."
    head = ["", "test set", "AUC, best head", "accuracy, best head", "accuracy, all heads", "larger class", "texts"]
    return ["## Transfer", "", about, "", *table(head, body)]


def pictures_of(extract: Extract, folder: str) -> list[str]:
    shown = [one for one in available(extract) if one[0] in IN_PAGE]
    return [f"![{graph(extract, *one).title}]({folder}/{'-'.join(filter(None, one))}.svg)\n" for one in shown]


def at_share(extract: Extract, prompts: str, share: float, plan: str) -> Cell | None:
    """The cell of a share, averaged over training seeds if there are several."""
    return next((c for c in tops(on(extract, prompts)) if (c.toxic_share, c.plan) == (share, plan)), None)


def _by_checkpoint(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    return {name: [cell for cell in cells if cell.checkpoint == name] for name in unique(c.checkpoint for c in cells)}


def _in(cells: Sequence[Cell], plan: str, cost: str) -> str:
    return next((interval(cell.cost[cost], 3) for cell in cells if cell.plan == plan and cost in cell.cost), "")


def _value(cell: Cell | None) -> str:
    return interval(cell.value, 1) if cell else ""


def _short(cells: Sequence[Cell], plan: str, measure: str) -> str:
    found = (f"{cell.measures[measure].value:.3f}" for cell in cells if cell.plan == plan and measure in cell.measures)
    return next(found, "–")


def _strength(extract: Extract, key: str) -> bool:
    cell = extract.point(key)
    return isinstance(cell, Cell) and cell.nats is None


def _points(estimate: Estimate) -> Estimate:
    """A share in percent, or a difference of shares in percentage points."""
    return Estimate(100 * estimate.value, 100 * estimate.low, 100 * estimate.high, estimate.n)


Chapter = Callable[[Extract], list[str]]
BEFORE_PICTURES: tuple[Chapter, ...] = (beside_table_1, equal_cost)
BEHIND_PICTURES: tuple[Chapter, ...] = (costs, fluency, probe_tables, ability)
