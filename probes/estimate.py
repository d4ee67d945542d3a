"""A number with its interval and its n, and the few ways we come by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import erfc, sqrt

import numpy as np
from numpy.typing import ArrayLike

Z = 1.959963984540054  # of a normal variable, 95 % lies within so many standard deviations
CHUNK = 4_000_000  # numbers drawn at once, so that a bootstrap of 100,000 texts stays within 64 MB


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int
    """How many texts, heads or pairs it rests on."""

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}], n={self.n}"


@dataclass(frozen=True)
class Difference:
    """How much one thing exceeds another, and how easily chance does as much."""

    estimate: Estimate
    """First minus second."""
    p: float
    """Two-sided: how often chance alone would give as large a difference."""

    def __str__(self) -> str:
        return f"{self.estimate.value:+.4f} [{self.estimate.low:+.4f}, {self.estimate.high:+.4f}], p={self.p:.4f}"


def wilson(k: int, n: int) -> Estimate:
    """The share k/n with Wilson's score interval (1927), which has width also where k is 0 or n."""
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"A share needs 0 <= k <= n and n >= 1; got k={k}, n={n}.")
    share, extra = k / n, Z * Z / n
    centre = (share + extra / 2) / (1 + extra)
    half = Z * sqrt(share * (1 - share) / n + extra / (4 * n)) / (1 + extra)
    # exactly 0 and 1, where rounding would leave 3e-17
    return Estimate(share, 0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half, n)


def bootstrap_mean(values: ArrayLike, rng: np.random.Generator, draws: int = 2000) -> Estimate:
    """The mean with its percentile bootstrap interval."""
    sample = checked(values)
    return Estimate(float(sample.mean()), *middle_95(resampled_means(sample, rng, draws)), len(sample))


def paired_difference(a: ArrayLike, b: ArrayLike, rng: np.random.Generator, draws: int = 10_000) -> Difference:
    """Mean of a - b over pairs: bootstrap over the pairs; p, from the share of means beyond zero, agrees with it."""
    first, second = checked(a), checked(b)
    if len(first) != len(second):
        raise ValueError(f"A paired difference needs two lists of equal length; got {len(first)} and {len(second)}.")
    differences = first - second
    means = resampled_means(differences, rng, draws)
    beyond = min(int(np.sum(means <= 0)), int(np.sum(means >= 0)))
    p = min(1.0, 2 * (1 + beyond) / (1 + draws))
    return Difference(Estimate(float(differences.mean()), *middle_95(means), len(differences)), p)


def unpaired_difference(a: ArrayLike, b: ArrayLike, rng: np.random.Generator, draws: int = 5000) -> Difference:
    """Mean of a minus mean of b, two separate samples: bootstrap interval, p from permuting who belongs to which."""
    first, second = checked(a), checked(b)
    means = resampled_means(first, rng, draws) - resampled_means(second, rng, draws)
    observed = float(first.mean() - second.mean())
    everyone, cut = np.concatenate([first, second]), len(first)
    as_large = 0
    for _ in range(draws):
        rng.shuffle(everyone)
        as_large += abs(everyone[:cut].mean() - everyone[cut:].mean()) >= abs(observed) - 1e-12
    estimate = Estimate(observed, *middle_95(means), min(len(first), len(second)))
    return Difference(estimate, (1 + int(as_large)) / (1 + draws))


def auc(scores: ArrayLike, labels: ArrayLike) -> Estimate:
    """How often a positive outranks a negative, a tie counting half, with Newcombe's interval.

    The interval (Newcombe 2006, method 5) solves |θ - value| = z·σ(θ) instead of putting the value into σ; so, like
    Wilson's, it has width also when the two classes do not overlap.
    """
    score, positive = checked(scores), np.asarray(labels, dtype=bool)
    if score.shape != positive.shape:
        raise ValueError(f"An AUC needs one label per score; got {len(score)} scores and {len(positive)} labels.")
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        raise ValueError(f"An AUC needs both classes; got {n_positive} positives and {n_negative} negatives.")
    value = (midranks(score)[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)
    low, high = auc_interval(float(value), n_positive, n_negative)
    return Estimate(float(value), low, high, len(score))


def auc_difference(a: ArrayLike, b: ArrayLike, labels: ArrayLike) -> Difference:
    """AUC of the scores `a` minus that of `b` on the same texts, with the normal interval of DeLong et al. (1988)."""
    positive = np.asarray(labels, dtype=bool)
    ours, theirs = placements(checked(a), positive), placements(checked(b), positive)
    if min(positive.sum(), (~positive).sum()) < 2:
        raise ValueError("A difference of AUCs needs at least two texts of each class.")
    differences = ours - theirs
    value = float(differences[positive].mean())
    spread = sqrt(sum(differences[rows].var(ddof=1) / rows.sum() for rows in (positive, ~positive)))
    p = erfc(abs(value) / spread / sqrt(2)) if spread else float(value == 0)
    return Difference(Estimate(value, value - Z * spread, value + Z * spread, len(positive)), p)


def placements(score: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """For each score the share of the other class that lies on its right side, a tie counting half."""
    if score.shape != positive.shape or not 0 < positive.sum() < len(positive):
        raise ValueError("Placements need one label per score, and both classes.")
    found, ranks = np.empty(len(score)), midranks(score)
    found[positive] = (ranks[positive] - midranks(score[positive])) / (~positive).sum()
    found[~positive] = 1 - (ranks[~positive] - midranks(score[~positive])) / positive.sum()
    return found


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def auc_interval(value: float, n_positive: float, n_negative: float) -> tuple[float, float]:
    """The AUCs from which the observed one is just 1.96 standard deviations away, found by bisection."""
    half = (n_positive + n_negative) / 2 - 1

    def too_far(theta: float) -> bool:
        spread = 1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (theta - value) ** 2 > Z * Z * theta * (1 - theta) * spread / (n_positive * n_negative)

    ends = []
    for far in (0.0, 1.0):
        near, far = value, far
        for _ in range(60):
            middle = (near + far) / 2
            near, far = (near, middle) if too_far(middle) else (middle, far)
        ends.append((near + far) / 2)
    return ends[0], ends[1]


def resampled_means(values: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Means of so many samples, each drawn from the values with replacement."""
    return np.concatenate(
        [
            values[rng.integers(len(values), size=(rows, len(values)))].mean(axis=1)
            for rows in batches(draws, len(values))
        ]
    )


def middle_95(draws: np.ndarray) -> tuple[float, float]:
    """The ends of the middle 95 % of some draws."""
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def batches(draws: int, n: int) -> Iterator[int]:
    """Row counts that add up to `draws`, each small enough to hold rows × n numbers."""
    most = max(1, CHUNK // n)
    while draws > 0:
        yield min(most, draws)
        draws -= most


def checked(values: ArrayLike) -> np.ndarray:
    """The values as one row of finite floats."""
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"Expected a list of numbers with at least one in it; got shape {sample.shape}.")
    if not np.isfinite(sample).all():
        raise ValueError(f"Expected finite numbers; {int((~np.isfinite(sample)).sum())} of {len(sample)} are not.")
    return sample
