"""The page that sets a family's results beside the paper's, every sentence made from the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation import report_tables as tables
from evaluation.cells import Found
from evaluation.compare import beyond_share, cost_comparisons
from evaluation.extract import Cell, Compared, Extract
from evaluation.graphs import unique
from evaluation.paper import FEWEST, TENTH, Statement, statements, verdict
from evaluation.repeat import commands, rests_on
from evaluation.report_probes import probe_sentences
from evaluation.report_transfer import detection
from evaluation.resample import holm
from evaluation.tables import about, p_value, table
from steering.cost import EVERY_POSITION

HEAD = (
    "Written by `python -m evaluation reproduce` from what {parts} hold: tables, pictures and sentences; the commands "
    "stand at the end. The paper is Li et al., *When Bad Data Leads to Good Models* (ICML 2025); its numbers are "
    "those quoted in public accounts of it. It trains models of a billion parameters, scores with Perspective and "
    "measures cost on OpenWebText; here the models are {size} and the scorer is {scorer}. Levels are therefore not "
    "comparable."
)
LIMITS = """## What this cannot show

- {seeds}
- Models this small write little that a reader would call an argument. A lower score may mean a kinder text or a less
  coherent one: read it beside its cost. Repetition within so few tokens does not show it.
- Their clean text holds little talk between people, and all toxic text is one board of one site
  (checkpoints/README.md): what tells the two apart need not be toxicity.
- The scorer imitates one that judged English comments of 2018 to 2021, and reads words more than intent.
- 4, 8 and 12 are the paper's strengths and 10 % is the paper's best share; neither was chosen here. Nor was a strength
  tuned for any model, but for those that cost equal nats.
"""
SEVERAL = (
    "Seeds of training are averaged, not resampled: two of them tell that results differ between seeds, not by how "
    "much,\n  and no interval here speaks of others."
)
ONE = "One seed of training stands for all: no interval here speaks of others."


@dataclass(frozen=True)
class Finding:
    """A statement of the paper, and what was found here."""

    statement: Statement
    prompts: str
    found: Compared | None
    p_adjusted: float
    """For all statements that could be tested, on all prompt sets."""

    @property
    def verdict(self) -> str:
        if self.found is None:
            return verdict(None, self.statement.sign)
        return verdict(self.found.difference, self.statement.sign, self.found.each)


def page(found: Found, extract: Extract, pictures: str, size: str) -> str:
    """All chapters; `pictures` is the folder they lie in, seen from the page."""
    tested = put_to_test(found, extract)
    scorer = " ".join(extract.scorer) + (", which imitates Perspective" if extract.scorer[0] == "builtin" else "")
    chapters = [
        [
            f"# What the {extract.name} family shows, beside the paper",
            "",
            HEAD.format(parts=rests_on(found, extract), size=size, scorer=scorer),
        ],
        in_short(extract, tested),
        ["## What was measured", "", about(extract) + dropped(found)],
        statement_table(tested, extract.averages_seeds),
        *(chapter(extract) for chapter in tables.BEFORE_PICTURES),
        tables.pictures_of(extract, pictures),
        *(chapter(extract) for chapter in tables.BEHIND_PICTURES),
        detection(found.others.get("detection", [])),
        [LIMITS.format(seeds=SEVERAL if extract.averages_seeds else ONE)],
        commands(found, extract),
    ]
    return "\n\n".join("\n".join(lines).strip() for lines in chapters if lines) + "\n"


def put_to_test(found: Found, extract: Extract) -> list[Finding]:
    """The paper's statements, each on every prompt set, p adjusted for all of them."""
    nats = unique(cell.plan for cell in extract.cells if cell.nats)
    pool = [
        *extract.comparisons,
        *(one for grid in found.grids.values() for one in beyond_share(grid, TENTH)),
        *cost_comparisons(found.grids.values(), found.costs, "increase"),
    ]
    asked = [
        (statement, prompts, _answer(extract, pool, statement, prompts))
        for statement in statements(tuple(nats))
        for prompts in extract.prompt_sets
        if statement.measure == "toxicity" or prompts == next(iter(extract.prompt_sets))
    ]
    adjusted = iter(holm([one.p for _, _, one in asked if one]))
    return [Finding(statement, prompts, one, next(adjusted) if one else 1.0) for statement, prompts, one in asked]


def _answer(extract: Extract, pool: Sequence[Compared], statement: Statement, prompts: str) -> Compared | None:
    """The comparison that tests a statement: of the means over seeds, at the share it is about."""
    shares = {cell.toxic_share for cell in extract.cells if cell.toxic_share is not None}
    share = max(shares, default=None) if statement.share is None else statement.share
    for one in pool:
        cell = extract.point(one.a)
        assert isinstance(cell, Cell)
        same = (one.question, one.measure, cell.plan, cell.prompts, cell.toxic_share)
        if same == (statement.question, statement.measure, statement.plan, prompts, share):
            return one
    return None


def in_short(extract: Extract, tested: Sequence[Finding]) -> list[str]:
    """How many statements the intervals carry, and what the largest of them is."""
    counts = Counter(one.verdict for one in tested if one.found)
    firm = Counter(one.verdict for one in tested if one.found and one.p_adjusted < 0.05)
    n, seeds = counts.total(), extract.averages_seeds
    split = f"in {counts['seeds disagree']} the seeds disagree, " if seeds else ""
    few = f", and {counts['too few']} rest on fewer than {FEWEST} pairs, too few to say" if counts["too few"] else ""
    return [
        "## In short",
        "",
        f"Of {n} tests of the paper's statements, {counts['agrees']} agree ({carried(seeds)} on the paper's side), "
        f"{counts['contradicts']} contradict (on the other), {split}{counts['open']} are open (the interval spans "
        f"zero){few}. With p adjusted for all {n} tests, {firm['agrees']} of the agreeing and {firm['contradicts']} of "
        "the contradicting ones stay below 0.05.",
        "",
        *(f"- {sentence}" for sentence in [*themes(tested), *tables.kl_sentences(extract), *probe_sentences(extract)]),
    ]


def carried(seeds: bool) -> str:
    """What must lie on one side for a verdict."""
    return "the 95 % interval and every training seed lie" if seeds else "the 95 % interval lies"


def themes(tested: Sequence[Finding]) -> list[str]:
    """Neighbouring statements counted together."""
    sentences = []
    for theme in unique(one.statement.theme for one in tested):
        counts = Counter(one.verdict for one in tested if one.statement.theme == theme and one.found)
        if counts:
            said = ", ".join(f"{counts[kind]} {MEANS[kind]}" for kind in MEANS if counts[kind])
            sentences.append(f"{theme}: of {counts.total()} tests {said}.")
    return sentences


MEANS = {
    "agrees": "agree",
    "contradicts": "contradict",
    "seeds disagree": "with seeds that disagree",
    "open": "open",
    "too few": "on too few pairs",
}


def statement_table(tested: Sequence[Finding], seeds: bool) -> list[str]:
    """Every statement with the paper's difference, ours, and what our interval carries."""
    rows = []
    for one in tested:
        of, found = one.statement, one.found
        its = of.its_own(one.prompts)
        digits = 2 if of.measure == "toxicity" else 3
        rows.append([
            of.says,
            one.prompts if of.measure == "toxicity" else "–",
            of.where,
            ("+" if of.sign > 0 else "−") if its is None else f"{its:+.2f}",
            f"{found.difference:+.{digits}f}" if found else "",
            ", ".join(f"{seed:+.{digits}f}" for seed in found.each) if found else "",
            p_value(found.p) if found else "",
            p_value(one.p_adjusted) if found else "",
            f"**{one.verdict}**" if one.verdict in ("agrees", "contradicts") else one.verdict,
        ])  # fmt: skip
    n = sum(one.found is not None for one in tested)
    disagree = (
        ' "seeds disagree": the interval lies on one side, a seed on the other; intervals are over prompts and say '
        "nothing of seeds."
    )
    head = ["statement", "prompts", "in the paper", "paper", "here", "each seed", "p", f"p of {n}", "interval"]
    return [
        "## The paper's statements",
        "",
        f"Differences of mean toxicity × 100, of cost in nats per token with {EVERY_POSITION}. "
        f'"agrees", "contradicts": {carried(seeds)} on the paper\'s side, or on the other.{disagree * seeds} "open": '
        f'the interval spans zero. "too few": fewer than {FEWEST} pairs, which cannot give p < 0.05. '
        "Where the paper prints no number its direction stands.",
        "",
        *table(head, rows),
    ]


def dropped(found: Found) -> str:
    """What did not fit in front of the texts."""
    left_out = {name: grid.dropped for name, grid in found.grids.items() if grid.dropped}
    said = ", ".join(f"{n:,} on {name}" for name, n in left_out.items())
    return f" Demonstrations left out of a checkpoint's prompts to fit its context, over all seeds: {said}." * bool(
        said
    )
