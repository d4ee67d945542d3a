"""From scores to points: the cells of an extract with their intervals, costs, abilities and generations to read."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from evaluation.cells import Grid, Place, Source
from evaluation.extract import COSTS, Able, Cell, Sample
from evaluation.family import Member, Shown, key, shown
from evaluation.resample import jackknife, means
from evaluation.results import Row
from evaluation.toxicity import TOXIC, expected_maximum, probability, proportion
from probes.estimate import Estimate, wilson
from probes.lexicon import Lexicon, mask

DRAWS = 2000
"""The ends of an interval need fewer draws than a small p."""
KEPT = 8
"""Prompts whose generations are kept for reading, the same ones in every cell."""
SHARES = ("share", "probability", "empty")
"""Shares have width also where none or all of the texts are counted; a bootstrap would give them none."""


def cells_of(grid: Grid, costs: Mapping[Place, Row]) -> list[Cell]:
    """A cell per checkpoint and plan, and per mean over training seeds; none where no text has a score."""
    number = {(source.checkpoint, source.plan): i for i, source in enumerate(grid.sources)}
    points = shown(map(member, grid.sources))
    plans = dict.fromkeys(source.plan for source in grid.sources)
    whole = [
        (point, [number[name, plan] for name in point.members])
        for point in points
        for plan in plans
        if all((name, plan) in number for name in point.members)
    ]
    measures = measured(grid, [there for _, there in whole])
    return [_cell(grid, *one, found, costs) for one, found in zip(whole, measures, strict=True) if "toxicity" in found]


def measured(grid: Grid, groups: Sequence[Sequence[int]]) -> list[dict[str, Estimate]]:
    """For each group of sources, averaged prompt by prompt, every measure in MEASURES that can be told."""
    found: list[dict[str, Estimate]] = [{} for _ in groups]
    n_texts = [sum(grid.n_texts[i] - grid.n_missing[i] for i in there) for there in groups]
    for name, values in by_prompt(grid):
        averaged = np.stack([values[there].mean(axis=0) for there in groups])
        known = np.flatnonzero(~np.isnan(averaged).all(axis=1))
        for group, estimate in zip(known, _estimates(name, averaged[known], [n_texts[i] for i in known]), strict=True):
            found[group][name] = estimate
    for group, there in zip(found, groups, strict=True):
        without = grid.variety_without[there].mean(axis=0)
        if not np.isnan(without).any():
            group["variety"] = jackknife(float(grid.variety[there].mean()), without)
    return found


def _estimates(name: str, values: Float[np.ndarray, "group prompt"], n_texts: Sequence[int]) -> list[Estimate]:
    if name in SHARES:
        return [proportion(row[~np.isnan(row)].tolist(), n) for row, n in zip(values, n_texts, strict=True)]
    found = means(values, DRAWS)
    return [found.estimate(group) for group in range(len(values))]


def by_prompt(grid: Grid) -> Iterator[tuple[str, Float[np.ndarray, "source prompt"]]]:
    """Every measure by its name in MEASURES: a number per source and prompt, NaN where there is none."""
    toxic = np.where(np.isnan(grid.scores), np.nan, grid.scores >= TOXIC)
    yield "toxicity", 100 * over_draws(grid.scores)
    yield "share", over_draws(toxic)
    if (k := _n_together(grid)) > 1:
        yield "expected_maximum", _worst(grid.scores, expected_maximum, k)
        yield "probability", _worst(grid.scores, probability, k)
    for name, values in grid.fluency.items():
        yield name, over_draws(values)


def _n_together(grid: Grid) -> int:
    """The k of "the highest of k continuations": samples, 25 in RTP's protocol whatever the seeds; else seeds.

    Where sources have different numbers of seeds, it is the smallest above 1, so that all of these can be compared.
    """
    if grid.n_samples > 1:
        return grid.n_samples
    n_seeds = (~np.isnan(grid.scores)).any(axis=1).sum(axis=1)
    return int(min((n for n in n_seeds if n > 1), default=1))


def _worst(
    scores: Float[np.ndarray, "source prompt draw"], measure: Callable[[np.ndarray, int], float], k: int
) -> Float[np.ndarray, "source prompt"]:
    """A measure of k of a prompt's continuations, NaN where fewer have a score."""
    there = ~np.isnan(scores)
    found = np.full(scores.shape[:2], np.nan)
    for place in zip(*np.nonzero(there.sum(axis=2) >= k), strict=True):
        found[place] = measure(scores[place][there[place]], k)
    return found


def over_draws(values: Float[np.ndarray, "*rows draw"]) -> Float[np.ndarray, "*rows"]:
    """The mean of what is there, NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(values, axis=-1)


def member(source: Source) -> Member:
    return Member(source.checkpoint, source.family, source.toxic_share, source.training_seed)


def _cell(
    grid: Grid, point: Shown, there: Sequence[int], measures: Mapping[str, Estimate], costs: Mapping[Place, Row]
) -> Cell:
    sources = [grid.sources[i] for i in there]
    first = sources[0]
    strengths = [source.strength for source in sources if source.strength is not None]
    return Cell(
        key=point.key(first.plan, grid.prompts),
        checkpoint=point.name,
        family=point.family,
        toxic_share=point.toxic_share,
        training_seed=point.training_seed,
        plan=first.plan,
        method=first.method,
        strength=float(np.mean(strengths)) if strengths else None,
        nats=first.nats,
        prompts=grid.prompts,
        n_texts=sum(grid.n_texts[i] for i in there),
        n_missing=sum(grid.n_missing[i] for i in there),
        measures=measures,
        cost=_cost([costs[place] for s in sources if (place := (s.checkpoint, s.plan)) in costs], len(sources)),
        members=tuple(key(name, first.plan, grid.prompts) for name in point.members) if len(there) > 1 else (),
    )


def _cost(rows: Sequence[Row], n: int) -> dict[str, Estimate]:
    """Costs by the names in COSTS. Of several seeds the ends are averaged too: all read the same windows of text."""
    if len(rows) < n or not rows:
        return {}
    return {name: _averaged([Estimate.of(row[name]) for row in rows]) for name in COSTS}


def _averaged(seeds: Sequence[Estimate]) -> Estimate:
    ends = [one.interval for one in seeds if one.interval]
    low, high = np.mean(ends, axis=0).tolist() if len(ends) == len(seeds) else (None, None)
    return Estimate.of([float(np.mean([one.value for one in seeds])), low, high, seeds[0].n])


def cost_text(costs: Iterable[Row]) -> dict[str, Any]:
    """Which text costs were measured on; empty if they were not."""
    first = next(iter(costs), None)
    return {} if first is None else {"name": first["text"], "digest": first["digest"], "n_tokens": first["n_tokens"]}


def abilities(rows: Sequence[Row]) -> list[Able]:
    """A point per checkpoint, plan and task, and per mean over training seeds on the same questions."""
    number = {(row["checkpoint"], row["plan"], row["task"]): row for row in rows}
    members = [
        Member(*(row[name] for name in ("checkpoint", "family", "toxic_share", "training_seed"))) for row in rows
    ]
    points = []
    for point in shown(members):
        for plan, task in dict.fromkeys((row["plan"], row["task"]) for row in sorted(rows, key=_task)):
            there = [number[name, plan, task] for name in point.members if (name, plan, task) in number]
            if len(there) == len(point.members) and len({row["digest"] for row in there}) == 1:
                points.append(_able(point, there, plan, task))
    return points


def _task(row: Row) -> str:
    return row["task"]


def _able(point: Shown, rows: Sequence[Row], plan: str, task: str) -> Able:
    right = np.mean([row["correct"] for row in rows], axis=0)
    alone = len(rows) == 1
    return Able(
        key=point.key(plan, "ability", task),
        checkpoint=point.name,
        family=point.family,
        toxic_share=point.toxic_share,
        training_seed=point.training_seed,
        plan=plan,
        task=task,
        value=wilson(int(right.sum()), len(right)) if alone else proportion(right.tolist(), right.size * len(rows)),
        chance=rows[0]["chance"],
        members=() if alone else tuple(key(name, plan, "ability", task) for name in point.members),
    )


def generations(grid: Grid) -> Iterator[tuple[str, tuple[Sample, ...]]]:
    """By cell, what was written to a few prompts with the first seed, masked; prompts are chosen by their ids alone."""
    lexicon = Lexicon.builtin()
    chosen = sorted(range(len(grid.ids)), key=lambda i: hashlib.sha256(grid.ids[i].encode()).digest())[:KEPT]
    for source, texts in zip(grid.sources, grid.first_texts, strict=True):
        there = [
            (id, group, *texts[id]) for id, group in ((grid.ids[i], grid.groups[i]) for i in chosen) if id in texts
        ]
        samples = (Sample(id, group, mask(text, lexicon), _number(score)) for id, group, text, score in there)
        yield key(source.checkpoint, source.plan, grid.prompts), tuple(samples)


def _number(score: float) -> float | None:
    return None if np.isnan(score) else float(score)
