"""A number with its interval and its n; shares; and texts that come in clusters.

Texts of one template, pair or group have correlated errors. `clusters` gives each text the number of its cluster, and
intervals and p take whole clusters as independent. Without it, every text is a cluster of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy import special, stats

Clusters = Int[np.ndarray, " text"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    interval: Interval | None
    """None: a single value, or the texts of a single cluster, do not say how far others lie apart."""
    n: int
    """How many texts, heads or pairs it rests on."""

    @classmethod
    def of(cls, row: Sequence[float | None]) -> Estimate:
        """What `row` wrote."""
        value, low, high, n = row
        assert value is not None
        assert n is not None
        return cls(value, None if low is None or high is None else (low, high), int(n))

    @property
    def row(self) -> list[float | None]:
        """As files hold it: the value, both ends (None without an interval), n."""
        return [self.value, *(self.interval or (None, None)), self.n]

    @property
    def low(self) -> float:
        """The lower end; an error where there is no interval."""
        return self._ends[0]

    @property
    def high(self) -> float:
        """The upper end; an error where there is no interval."""
        return self._ends[1]

    @property
    def _ends(self) -> Interval:
        if self.interval is None:
            raise ValueError(f"An estimate from n = {self.n} has no interval. Measure more, or use its value alone.")
        return self.interval

    def holds(self, number: float) -> bool:
        """Whether the interval holds a number, so that it is not ruled out; without an interval none is."""
        return self.interval is None or self.low <= number <= self.high

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit."""
        return Estimate(factor * self.value, self.interval and (factor * self.low, factor * self.high), self.n)

    def ends(self, digits: str) -> str:
        """Both ends of the interval in this format, or that there is none."""
        if self.interval is None:
            return f"no interval (n = {self.n})"
        return f"{self.low:{digits}} to {self.high:{digits}}"

    def interval_in_words(self, digits: str) -> str:
        """The interval as part of a sentence."""
        return f"interval {self.ends(digits)}" if self.interval else self.ends(digits)

    def __format__(self, digits: str) -> str:
        """The value with its interval, all three numbers in this format: f"{estimate:+.2f}"."""
        if not digits:
            return str(self)
        if self.interval is None:
            return f"{self.value:{digits}}, {self.ends(digits)}"
        return f"{self.value:{digits}} [{self.low:{digits}}, {self.high:{digits}}]"

    def __str__(self) -> str:
        return f"{self:.3f}" if self.interval is None else f"{self:.3f}, n={self.n}"


@dataclass(frozen=True)
class Difference:
    """How much one thing exceeds another, and how easily random noise does as much."""

    estimate: Estimate
    """First minus second."""
    p: float
    """Two-sided: how often random noise alone would give as large a difference."""

    def __str__(self) -> str:
        return f"{self.estimate:+.4f}, p={self.p:.4f}"


def wilson(k: int, n: int) -> Estimate:
    """The share k/n with Wilson's score interval (1927), which has width also where k is 0 or n."""
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"A share needs 0 <= k <= n and n >= 1; got k={k}, n={n}.")
    ends = stats.binomtest(k, n).proportion_ci(method="wilson")
    return Estimate(k / n, (float(ends.low), float(ends.high)), n)


def share(hits: Bool[np.ndarray, " text"], clusters: Clusters | None = None) -> Estimate:
    """The share of hits among texts: Wilson's interval, or Korn and Graubard's where texts come in clusters."""
    sums, sizes = totals(hits, clusters)
    if sizes.max() == 1:
        return wilson(int(sums.sum()), len(hits))
    value, n = float(np.mean(hits)), len(hits)
    least = n**2 / float(sizes @ sizes)  # the effective sample size if the texts of a cluster are all alike
    return Estimate(value, korn_graubard(value, variance_of_mean(sums, sizes), len(sizes), n, least), n)


def korn_graubard(value: float, variance: float, n_clusters: int, n_texts: int, least: float) -> Interval:
    """The interval of a share of clustered texts (Korn & Graubard 1998): the exact one with the effective sample size.

    That is value · (1 - value) / variance, no larger than `n_texts`, times a correction for the degrees of freedom of
    the variance, and no smaller than `least`. The exact interval is Clopper and Pearson's (1934); its n need not be a
    whole number.
    """
    n = least
    if variance:
        freedom = float((stats.t.ppf(0.975, n_texts - 1) / stats.t.ppf(0.975, n_clusters - 1)) ** 2)
        n = max(least, min(n_texts, value * (1 - value) / variance) * freedom)
    k = value * n
    low = 0.0 if value == 0 else float(special.betaincinv(k, n - k + 1, 0.025))
    return low, 1.0 if value == 1 else float(special.betaincinv(k + 1, n - k, 0.975))


def variance_of_mean(sums: Float[np.ndarray, " cluster"], sizes: Int[np.ndarray, " cluster"]) -> float:
    """Variance of the mean over texts, as a ratio of the clusters' sums and sizes; 0 for a single cluster."""
    residuals = (sums - sums.sum() / sizes.sum() * sizes) / sizes.sum()
    return float(residuals @ residuals) * len(sums) / max(1, len(sums) - 1)


def totals(
    values: Float[np.ndarray, " text"] | Bool[np.ndarray, " text"], clusters: Clusters | None
) -> tuple[Float[np.ndarray, " cluster"], Int[np.ndarray, " cluster"]]:
    """The sum of every cluster's values, and the number of its texts."""
    if clusters is None:
        return np.asarray(values, dtype=np.float64), np.ones(len(values), dtype=int)
    if len(clusters) != len(values):
        raise ValueError(f"Every text belongs to one cluster; got {len(values)} texts in {len(clusters)} places.")
    _, numbers, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return np.bincount(numbers, weights=values), sizes


def checked(values: ArrayLike) -> np.ndarray:
    """The values as one row of finite floats."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"Expected a list of numbers with at least one in it; got shape {sample.shape}.")
    if not np.isfinite(sample).all():
        raise ValueError(f"Expected finite numbers; {int((~np.isfinite(sample)).sum())} of {len(sample)} are not.")
    return sample
