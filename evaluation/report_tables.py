"""The chapters of the report that are tables, but for those on probes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from evaluation.extract import Cell, Extract
from evaluation.family import percent
from evaluation.graphs import available, doses_at, graph, on, tops, unique
from evaluation.paper import PLANS, SETS, TABLE_1, TENTH, set_of, verdict
from evaluation.report_probes import probe_tables
from evaluation.tables import compared, comparison_table, table, toxicity_table
from steering.cost import EVERY_POSITION

VARIETY = ("variety", "distinct_2", "repetition")
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
        here = [f"{cost[name]:.3f}" if name in cost else "" for name in ("cross_entropy", "increase")]
        rows.append([f"{percent(share)} % toxic, {plan}", *numbers, f"{line.cross_entropy:.2f}", *here])
    head = ["", *(f"{of} {name}" for name in SETS.values() for of in ("paper:", "here:"))]
    return [
        "## Table 1, at equal strength",
        "",
        f"Mean toxicity × 100, and cross-entropy in nats per token, here with {EVERY_POSITION}. The paper's lines for "
        "MEDA, INST, SFT and DPO need models trained for them and are not measured.",
        "",
        *table([*head, "paper: cross-entropy", "here: cross-entropy", "here: increase"], rows),
    ]


def toxicity(extract: Extract) -> list[str]:
    """Every checkpoint under every plan: what was tried on one seed is to be read beside that seed's other plans."""
    lines = ["## Toxicity of every checkpoint under every plan"]
    for prompts, of in extract.prompt_sets.items():
        lines += ["", f"### {prompts}, n={of['n']:,} prompts", "", *toxicity_table(by_share(on(extract, prompts)))]
    return lines


def equal_cost(extract: Extract) -> list[str]:
    """What equal nats buy at every share, against the least toxic checkpoint."""
    lines = []
    for prompts in extract.prompt_sets:
        bought = {cell.key: cell for cell in on(extract, prompts) if cell.nats}
        if found := [one for one in compared(extract, prompts, "share") if one.a in bought]:
            lines += [f"### {prompts}", "", *comparison_table(extract, found), ""]
    if not lines:
        return []
    alone = [cell for cell in on(extract, next(iter(extract.prompt_sets))) if cell.nats and not cell.members]
    plans = unique(cell.plan for cell in alone)
    strengths = [[title, *(_strength(cells, plan) for plan in plans)] for title, cells in _by_checkpoint(alone).items()]
    apart, reached = _reached(alone, plans)
    return [
        "## At equal cost",
        "",
        "Each strength is the one that moves the model's predictions by so many nats per token on ordinary text "
        f"(KL, {EVERY_POSITION}){apart}. The strengths it takes:",
        "",
        *table(["", *plans], [*strengths, *reached]),
        "",
        "Against the least toxic checkpoint at the same cost:",
        "",
        *lines,
    ]


def _reached(cells: Sequence[Cell], plans: Sequence[str]) -> tuple[str, list[list[str]]]:
    """How near to the nats asked for the checkpoints came, in words and as a row of the lowest and highest KL."""
    found = {plan: [cell.cost["kl"].value for cell in cells if cell.plan == plan and cell.cost] for plan in plans}
    misses = [abs(cell.cost["kl"].value / cell.nats - 1) for cell in cells if cell.nats and cell.cost]
    if not misses:
        return "", []
    ends = [f"{min(kl):.4f} to {max(kl):.4f}" if kl else "" for kl in found.values()]
    return f", met by every checkpoint within {100 * max(misses):.2g} %", [["KL measured, lowest to highest", *ends]]


def kl_sentences(extract: Extract) -> list[str]:
    """What the cost in KL says beside the cross-entropy, at equal strength."""
    first = next(iter(extract.prompt_sets))
    found = []
    for one in compared(extract, first, "share", "kl"):
        cell = extract.point(one.a)
        assert isinstance(cell, Cell)
        if cell.plan in PLANS[1:] and cell.toxic_share == TENTH:
            seeds = f"; seeds {', '.join(f'{seed:+.3f}' for seed in one.each)}" * bool(one.each)
            says = KL_MEANS[verdict(one.difference, +1, one.each)]
            found.append(f"{cell.plan} {says} ({one.difference:+.3f} nats per token{seeds})")
    return [f"In KL, which the paper does not measure, the 10 % model: {'; '.join(found)}."] * bool(found)


KL_MEANS = {
    "agrees": "pays more than the clean one",
    "contradicts": "pays less than the clean one",
    "seeds disagree": "with seeds that disagree",
    "open": "open",
    "too few": "measured on too few windows of text",
}


def costs(extract: Extract) -> list[str]:
    """What equal strengths cost."""
    first = next(iter(extract.prompt_sets))
    priced = [cell for cell in tops(on(extract, first)) if cell.cost and doses_at("strength", cell)]
    if not priced:
        return []
    plans = unique(cell.plan for cell in priced)
    rows = [[title, *(_in(cells, plan, "kl") for plan in plans)] for title, cells in _by_checkpoint(priced).items()]
    compare = [one for one in compared(extract, first, "share", "kl") if _at_strength(extract, one.a)]
    return [
        "## What equal strengths cost",
        "",
        f"KL(plain ‖ steered) in nats per token on {extract.cost_text['name']}, {EVERY_POSITION}:",
        "",
        *table(["", *plans], rows),
        *(["", "Against the least toxic checkpoint, window by window:", ""] if compare else []),
        *(comparison_table(extract, compare, 3) if compare else []),
    ]


def fluency(extract: Extract) -> list[str]:
    """How varied what was written is, for a broken model is not toxic either."""
    lines = [
        "## Variety and repetition",
        "",
        "Different word pairs in one text to every prompt, all of them together (the distinct-2 of Li et al. 2016, "
        "divided by pairs; –: not measured, as in results made before it was) / different word pairs within a text / "
        "runs of four words that the text held before; shares, without their intervals. Texts of "
        f"{extract.sampling['max_tokens']} tokens hardly repeat themselves: by the last two, random words are as good, "
        "and so is one sentence to every prompt, which the first would show. Whether what varies makes sense is not "
        "measured.",
    ]
    for prompts, of in extract.prompt_sets.items():
        cells = tops(on(extract, prompts))
        plans = unique(cell.plan for cell in cells)
        rows = [
            [title, *(" / ".join(_short(row, plan, name) for name in VARIETY) for plan in plans)]
            for title, row in _by_checkpoint(cells).items()
        ]
        lines += ["", *table([f"{prompts}, n={of['n']:,}", *plans], rows)]
    return lines


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
            f"{point.value:.3f}, n={point.value.n:,}",
            f"{point.chance:.3f}",
            "chance" if point.at_chance else "",
        ]
        for point in points
    ]
    return [
        "## Ability",
        "",
        f"Of {len(points)} accuracies {guesses} cannot be told from guessing: their intervals hold it.",
        "",
        *table(["", "plan", "task", "right (share of questions)", "guessing", ""], rows),
    ]


def pictures_of(extract: Extract, folder: str) -> list[str]:
    shown = [one for one in available(extract) if one[0] in IN_PAGE]
    return [f"![{graph(extract, *one).title}]({folder}/{'-'.join(filter(None, one))}.svg)\n" for one in shown]


def at_share(extract: Extract, prompts: str, share: float, plan: str) -> Cell | None:
    """The cell of a share, averaged over training seeds if there are several."""
    return next((c for c in tops(on(extract, prompts)) if (c.toxic_share, c.plan) == (share, plan)), None)


def by_share(cells: Iterable[Cell]) -> list[Cell]:
    """By toxic share, a mean behind its members."""
    return sorted(cells, key=lambda cell: (cell.family, cell.toxic_share or 0, bool(cell.members)))


def _by_checkpoint(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    return {name: [cell for cell in cells if cell.checkpoint == name] for name in unique(c.checkpoint for c in cells)}


def _in(cells: Sequence[Cell], plan: str, cost: str) -> str:
    return next((f"{cell.cost[cost]:.3f}" for cell in cells if cell.plan == plan and cost in cell.cost), "")


def _value(cell: Cell | None) -> str:
    return f"{cell.value:.1f}" if cell else ""


def _short(cells: Sequence[Cell], plan: str, measure: str) -> str:
    found = (f"{cell.measures[measure].value:.3f}" for cell in cells if cell.plan == plan and measure in cell.measures)
    return next(found, "–")


def _at_strength(extract: Extract, key: str) -> bool:
    cell = extract.point(key)
    return isinstance(cell, Cell) and cell.nats is None


def _strength(cells: Sequence[Cell], plan: str) -> str:
    return next((f"{cell.strength:.3g}" for cell in cells if cell.plan == plan and cell.strength is not None), "")


Chapter = Callable[[Extract], list[str]]
BEFORE_PICTURES: tuple[Chapter, ...] = (beside_table_1, toxicity, equal_cost)
BEHIND_PICTURES: tuple[Chapter, ...] = (costs, fluency, probe_tables, ability)
