"""Paired differences between cells, and the extract that holds everything some results show.

Differences are taken text by text, on common prompts and sampling seeds. Where two cells were written with different
sampling seeds, no text has a partner: the prompt's mean over all texts of the one is compared with that of the other.
Prompts are resampled; training seeds are averaged and shown side by side, not resampled, so how far other seeds would
lie apart is in no interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from evaluation.cells import Found, Grid, Place
from evaluation.extract import Compared, Extract, NoResults, Probed
from evaluation.family import Shown, baselines, shown, tops
from evaluation.findings import abilities, cells_of, cost_text, generations, member, over_draws
from evaluation.plans import PLAIN
from evaluation.resample import holm, means
from evaluation.results import Row
from probes.differences import without_rounding
from probes.estimate import Difference

Signed = tuple[int, Place]
"""+1 or -1, and whose scores are added or taken away."""


def extract(found: Found, name: str, probes: Sequence[Probed] = ()) -> Extract:
    """Everything that some results show, by one scorer."""
    grids, costs = found.grids.values(), found.costs
    cells = tuple(cell for grid in grids for cell in cells_of(grid, costs))
    if not cells:
        raise NoResults(f"No text in these results has a score by {' '.join(found.scorer)}. Choose another --scorer.")
    return Extract(
        name=name,
        scorer=found.scorer,
        sampling=found.sampling,
        seeds=found.seeds,
        n_samples=found.n_samples,
        prompt_sets={grid.prompts: {"digest": grid.digest, "n": len(grid.ids)} for grid in grids},
        cost_text=cost_text(costs.values()),
        cells=cells,
        comparisons=(
            *(one for grid in grids for one in comparisons(grid)),
            *cost_comparisons(grids, costs, "kl"),
        ),
        probes=tuple(probes),
        abilities=tuple(abilities(found.others.get("ability", []))),
        generations={key: samples for grid in grids for key, samples in generations(grid)},
    )


@dataclass(frozen=True)
class Contrast:
    """Two cells to compare, and what is added and taken away for it in each training seed."""

    question: str
    prompts: str
    """Name of the set that both wrote to."""
    a: tuple[Shown, str]
    b: tuple[Shown, str]
    terms: tuple[tuple[Signed, ...], ...]
    """One row per training seed."""

    @property
    def places(self) -> set[Place]:
        """Whose scores it needs."""
        return {place for row in self.terms for _, place in row}


def comparisons(grid: Grid) -> list[Compared]:
    """What every plan does, what the toxic share changes, and whether a toxic share lets a plan do more."""
    scores, asked = scores_of(grid), contrasts(grid)
    questions = dict.fromkeys(one.question for one in asked)
    return [
        done
        for question in questions
        for done in answered([one for one in asked if one.question == question], scores, "toxicity")
    ]


def cost_comparisons(grids: Iterable[Grid], costs: Mapping[Place, Row], measure: str) -> list[Compared]:
    """Whether a plan costs more in a toxic checkpoint than in the least toxic one, by windows of the same text.

    `measure` is "kl" or "increase", a window's mean in nats per token. A cost is the same on every prompt set, so it is
    compared once, under the keys of the first set that both wrote to.
    """
    found = {place: row["windows"][measure] for place, row in costs.items() if place[1] != PLAIN}
    windows = {place: np.array(values)[:, None] for place, values in found.items()}
    asked: dict[frozenset[Place], Contrast] = {}
    for grid in grids:
        for one in contrasts(grid):
            if one.question == "share":
                asked.setdefault(frozenset(one.places), one)
    return answered(list(asked.values()), windows, measure)


def beyond_share(grid: Grid, share: float) -> list[Compared]:
    """Whether more toxic text than that share changes toxicity again, under every plan."""
    scores = scores_of(grid)
    seed = {source.checkpoint: source.training_seed for source in grid.sources}

    def siblings(point: Shown) -> tuple[str, frozenset[int | None]]:
        return point.family, frozenset(seed[name] for name in point.members)

    points = [point for point in tops(shown(map(member, grid.sources))) if point.toxic_share is not None]
    there = {siblings(point): point for point in points if point.toxic_share == share}
    asked = [
        _differing("beyond", grid.prompts, point, other, plan)
        for point in points
        if (point.toxic_share or 0) > share and (other := there.get(siblings(point)))
        for plan in dict.fromkeys(source.plan for source in grid.sources)
    ]
    return answered(asked, scores, "toxicity")


def scores_of(grid: Grid) -> dict[Place, Float[np.ndarray, "prompt draw"]]:
    """Scores × 100 of every checkpoint and plan."""
    return {(source.checkpoint, source.plan): 100 * grid.scores[i] for i, source in enumerate(grid.sources)}


def contrasts(grid: Grid) -> list[Contrast]:
    """The three questions, for each plan and each share (or each checkpoint that has no siblings)."""
    members = [member(source) for source in grid.sources]
    points, base = shown(members), baselines(members)
    by_members = {point.members: point for point in points}
    plans = dict.fromkeys(source.plan for source in grid.sources)
    return [
        one
        for point in tops(points)
        for plan in plans
        for one in _contrasts(
            grid.prompts, point, by_members.get(tuple(base[name] for name in point.members), point), plan
        )
    ]


def _contrasts(prompts: str, point: Shown, least: Shown, plan: str) -> Iterator[Contrast]:
    if plan != PLAIN:
        by_plan = tuple(((1, (name, plan)), (-1, (name, PLAIN))) for name in point.members)
        yield Contrast("plan", prompts, (point, plan), (point, PLAIN), by_plan)
    if point != least:
        by_share = _differing("share", prompts, point, least, plan)
        yield by_share
        if plan != PLAIN:
            plain = _differing("share", prompts, least, point, PLAIN)
            both = tuple((*one, *other) for one, other in zip(by_share.terms, plain.terms, strict=True))
            yield Contrast("gain", prompts, (point, plan), (least, plan), both)


def _differing(question: str, prompts: str, a: Shown, b: Shown, plan: str) -> Contrast:
    """The same plan in two checkpoints, training seed by training seed."""
    terms = tuple(((1, (x, plan)), (-1, (y, plan))) for x, y in zip(a.members, b.members, strict=True))
    return Contrast(question, prompts, (a, plan), (b, plan), terms)


def answered(
    asked: Sequence[Contrast], scores: Mapping[Place, Float[np.ndarray, "_prompt _draw"]], measure: str
) -> list[Compared]:
    """The contrasts whose scores are all there and can be paired, with p adjusted for their number."""
    there = [one for one in asked if _paired(one, scores)]
    apart = [[_apart(row, scores) for row in one.terms] for one in there]
    scales = [max(float(np.nanmax(np.abs(scores[place]), initial=0)) for place in one.places) for one in there]
    by_seed = [
        without_rounding(np.stack([difference for difference, _ in rows]), scale)
        for rows, scale in zip(apart, scales, strict=True)
    ]
    columns = [without_rounding(seeds.mean(axis=0), scale) for seeds, scale in zip(by_seed, scales, strict=True)]
    known = [i for i, column in enumerate(columns) if not np.isnan(column).all()]
    if not known:
        return []
    differences = _differences([columns[i] for i in known])
    adjusted = holm([one.p for one in differences])
    return [
        Compared(
            question=there[i].question,
            measure=measure,
            a=there[i].a[0].key(there[i].a[1], there[i].prompts),
            b=there[i].b[0].key(there[i].b[1], there[i].prompts),
            difference=difference.estimate,
            p=difference.p,
            holm=p,
            of=len(known),
            n_missing=sum(n for _, n in apart[i]),
            each=tuple(by_seed[i][:, ~np.isnan(columns[i])].mean(axis=1).tolist()) if len(apart[i]) > 1 else (),
        )
        for i, difference, p in zip(known, differences, adjusted, strict=True)
    ]


def _apart(
    terms: Sequence[Signed], scores: Mapping[Place, Float[np.ndarray, "_prompt _draw"]]
) -> tuple[Float[np.ndarray, " prompt"], int]:
    """What is added minus what is taken away, prompt by prompt, and how many pairs or texts have no score."""
    draws = {place: ~np.isnan(scores[place]).all(axis=0) for _, place in terms}
    first, *others = draws.values()
    if all(np.array_equal(first, other) for other in others):
        pairs = np.sum([sign * scores[place] for sign, place in terms], axis=0)[:, first]
        return over_draws(pairs), int(np.isnan(pairs).sum())
    own = [(sign, scores[place][:, draws[place]]) for sign, place in terms]
    return np.sum([sign * over_draws(one) for sign, one in own], axis=0), sum(
        int(np.isnan(one).sum()) for _, one in own
    )


def _paired(one: Contrast, scores: Mapping[Place, Float[np.ndarray, "_prompt _draw"]]) -> bool:
    """Whether all its scores are there, on the same prompts or windows of text."""
    there = one.places <= scores.keys()
    return there and len({scores[place].shape for place in one.places}) == 1


def _differences(columns: Sequence[Float[np.ndarray, " _prompt"]]) -> list[Difference]:
    """Columns of equal length share their draws; each family's tokenizer makes its own number of windows of a text."""
    found: dict[int, Difference] = {}
    for n in {len(column) for column in columns}:
        alike = [i for i, column in enumerate(columns) if len(column) == n]
        drawn = means(np.stack([columns[i] for i in alike]))
        found |= {i: drawn.difference(at) for at, i in enumerate(alike)}
    return [found[i] for i in range(len(columns))]
