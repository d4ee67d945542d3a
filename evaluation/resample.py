"""The bootstrap behind every interval of a sweep: prompts are drawn again, each with all that was written to it.

Texts to one prompt are alike, so the prompt is what is drawn (a cluster). Its sampling seeds come along and are not
drawn once more inside: a prompt's mean already carries their chance, and drawing them again would count it twice
(Davison & Hinkley 1997, section 3.8; tests/test_resample.py shows both). All columns share one set of draws, so that a
difference of columns is a paired difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from probes.estimate import Difference, Estimate, Z, batches

DRAWS = 10_000


@dataclass(frozen=True, eq=False)
class Means:
    """Means of columns, and the same of every bootstrap draw."""

    values: Float[np.ndarray, " column"]
    draws: Float[np.ndarray, "draw column"]
    n: Int[np.ndarray, " column"]
    """Prompts with a number."""

    @cached_property
    def ends(self) -> Float[np.ndarray, "2 column"]:
        """Of the middle 95 % of each column's draws."""
        return np.quantile(self.draws, (0.025, 0.975), axis=0)

    def estimate(self, column: int) -> Estimate:
        low, high = self.ends[:, column]
        return Estimate(float(self.values[column]), float(low), float(high), int(self.n[column]))

    def difference(self, column: int) -> Difference:
        """A column that holds differences, with a two-sided p from the share of draws beyond zero."""
        draws = self.draws[:, column]
        beyond = min(int(np.sum(draws <= 0)), int(np.sum(draws >= 0)))
        return Difference(self.estimate(column), min(1.0, 2 * (1 + beyond) / (1 + len(draws))))


def means(columns: Float[np.ndarray, "column prompt"], n_draws: int = DRAWS, seed: int = 0) -> Means:
    """The mean of each column over prompts, those without a number (NaN) left out, with draws over prompts."""
    there = ~np.isnan(columns).T
    if not there.any(axis=0).all():
        raise ValueError(f"{int((~there.any(axis=0)).sum())} of {len(columns)} columns hold no score at all.")
    numbers, counts = np.where(there, columns.T, 0.0), there.astype(float)
    values = numbers.sum(axis=0) / counts.sum(axis=0)
    draws = []
    for times in times_drawn(len(numbers), n_draws, seed):
        totals = times @ counts
        unlucky = np.broadcast_to(values, totals.shape).copy()  # a draw without any number says nothing new
        draws.append(np.divide(times @ numbers, totals, out=unlucky, where=totals > 0))
    return Means(values, np.concatenate(draws), there.sum(axis=0))


def jackknife(value: float, without: Float[np.ndarray, " prompt"]) -> Estimate:
    """A share that is no mean over prompts, with the normal interval of what leaving out each in turn does to it.

    Drawing prompts again would make texts equal that are not. The jackknife's variance is too large on average, if it
    errs (Efron & Stein 1981).
    """
    n = len(without)
    half = Z * float(np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2)))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), n)


def holm(ps: Sequence[float]) -> list[float]:
    """Each p adjusted for all of them, so that the chance of one false alarm among them stays below 5 % (Holm 1979)."""
    order = np.argsort(ps, kind="stable")
    scaled = np.asarray(ps, dtype=float)[order] * np.arange(len(ps), 0, -1)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return adjusted.tolist()


def times_drawn(n: int, n_draws: int, seed: int) -> Iterator[Float[np.ndarray, "draw prompt"]]:
    """How often each of n prompts occurs in a sample of n with replacement, some draws at a time."""
    rng = np.random.default_rng(seed)
    for rows in batches(n_draws, n):
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)
