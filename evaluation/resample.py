"""The intervals of a sweep: prompts are the sample, each with all that was written to it.

Texts to one prompt are alike, so the prompt is the cluster. From 60 prompts on, prompts are drawn again, each with its
sampling seeds. Seeds are not drawn once more inside: a prompt's mean already carries their noise, and drawing them
again would count it twice (Davison & Hinkley 1997, section 3.8; tests/test_resample.py shows both). All columns share
one set of draws, so that a difference of columns is a paired difference. Below 60 prompts, see `probes.differences`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from probes.differences import CHUNK, SMALL, middle_95, p_beyond_zero, sign_flip_p, student
from probes.estimate import Clusters, Difference, Estimate

DRAWS = 10_000


@dataclass(frozen=True, eq=False)
class Means:
    """Means of columns, and the same of every bootstrap draw."""

    columns: Float[np.ndarray, "column prompt"]
    """NaN where a prompt has no number."""
    values: Float[np.ndarray, " column"]
    draws: Float[np.ndarray, "draw column"]

    @cached_property
    def ends(self) -> Float[np.ndarray, "2 column"]:
        """Of the middle 95 % of each column's draws."""
        return np.quantile(self.draws, (0.025, 0.975), axis=0)

    def estimate(self, column: int) -> Estimate:
        """The mean of a column over the prompts that have a number."""
        there, (low, high) = self._there(column), self.ends[:, column].tolist()
        interval = student(there, np.ones(len(there), dtype=int)) if len(there) < SMALL else (low, high)
        return Estimate(float(self.values[column]), interval, len(there))

    def difference(self, column: int) -> Difference:
        """The same of a column that holds differences, with a two-sided p."""
        there = self._there(column)
        p = sign_flip_p(there) if len(there) < SMALL else p_beyond_zero(self.draws[:, column])
        return Difference(self.estimate(column), p)

    def _there(self, column: int) -> Float[np.ndarray, " prompt"]:
        return self.columns[column][~np.isnan(self.columns[column])]


def means(columns: Float[np.ndarray, "column prompt"], n_draws: int = DRAWS, seed: int = 0) -> Means:
    """The mean of each column over prompts, those without a number (NaN) left out, with draws over prompts."""
    there = ~np.isnan(columns).T
    if not there.any(axis=0).all():
        raise ValueError(f"{int((~there.any(axis=0)).sum())} of {len(columns)} columns hold no score at all.")
    numbers, counts = np.where(there, columns.T, 0.0), there.astype(float)
    values = numbers.sum(axis=0) / counts.sum(axis=0)
    draws = []
    for times in times_drawn(len(numbers), n_draws, seed):
        n_drawn = times @ counts
        unlucky = np.broadcast_to(values, n_drawn.shape).copy()  # a draw without any number says nothing new
        draws.append(np.divide(times @ numbers, n_drawn, out=unlucky, where=n_drawn > 0))
    return Means(columns, values, np.concatenate(draws))


def resampled(statistic: Callable[[np.ndarray], float], clusters: Clusters, n_draws: int) -> Estimate:
    """A number of texts with its percentile bootstrap interval, whole clusters drawn; it is told the texts' rows."""
    found = np.array([statistic(rows) for rows in drawn_rows(clusters, n_draws)])
    return Estimate(statistic(np.arange(len(clusters))), middle_95(found[np.isfinite(found)]), len(clusters))


def drawn_rows(clusters: Clusters, n_draws: int) -> Iterator[Int[np.ndarray, " text"]]:
    """The rows of texts in samples of whole clusters, drawn with replacement."""
    _, numbers = np.unique(clusters, return_inverse=True)
    for some in times_drawn(int(numbers.max()) + 1, n_draws, seed=0):
        yield from (np.repeat(np.arange(len(numbers)), times[numbers].astype(int)) for times in some)


def jackknife(value: float, without: Float[np.ndarray, " prompt"]) -> Estimate:
    """A share that is no mean over prompts, with the interval of what leaving out each in turn does to it.

    Drawing prompts again would make texts equal that are not. The jackknife's variance is too large on average, if it
    errs (Efron & Stein 1981).
    """
    n = len(without)
    if n < 2:
        return Estimate(value, None, n)
    z = stats.t.ppf(0.975, n - 1) if n < SMALL else stats.norm.ppf(0.975)
    half = float(z * np.sqrt((n - 1) / n * np.sum((without - without.mean()) ** 2)))
    return Estimate(value, (max(0.0, value - half), min(1.0, value + half)), n)


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
    most = max(1, CHUNK // n)
    for start in range(0, n_draws, most):
        rows = min(most, n_draws - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)
