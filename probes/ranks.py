"""How well scores rank the texts of one class above those of another, and how far two scorers differ in it."""

from __future__ import annotations

from math import sqrt

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from probes.differences import Z, sign_flip_p
from probes.estimate import Clusters, Difference, Estimate, Interval, checked, totals


def auc(scores: ArrayLike, labels: ArrayLike, clusters: Clusters | None = None) -> Estimate:
    """How often a positive outranks a negative, a tie counting half, with Newcombe's interval.

    The interval (Newcombe 2006, method 5) solves |θ - value| = z·σ(θ) instead of putting the value into σ; so, like
    Wilson's, it has width also when the two classes do not overlap. For texts in clusters it is that of fewer texts:
    their number over the design effect, by Obuchowski's variance (1997).
    """
    score, positive = checked(scores), classes(scores, labels)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    value, times = ranked_above(score, positive), 1.0
    if clusters is not None:
        placed = placements(score, positive)
        alone, together = (variance_of(added(placed, positive, of)) for of in (None, clusters))
        sizes = totals(score, clusters)[1]
        times = max(1.0, together / alone if alone else float(sizes @ sizes) / len(score))
    return Estimate(value, newcombe(value, n_positive / times, n_negative / times), len(score))


def auc_difference(a: ArrayLike, b: ArrayLike, labels: ArrayLike, clusters: Clusters | None = None) -> Difference:
    """AUC of the scores `a` minus that of `b` on the same texts.

    The interval joins those of the two AUCs by their correlation (Zou 2007), so it has width also where a scorer makes
    no mistake; the correlation is Obuchowski's (1997). p comes from exchanging the two ranks of each cluster's texts
    (Bandos, Rockette & Gur 2005).
    """
    positive, sides = classes(a, labels), [checked(a), checked(b)]
    if min(positive.sum(), (~positive).sum()) < 2:
        raise ValueError("A difference of AUCs needs at least two texts of each class.")
    first, second = (auc(side, positive, clusters) for side in sides)
    same = correlation(*(added(placements(side, positive), positive, clusters) for side in sides))
    value = first.value - second.value
    low = joined(first.value - first.low, second.high - second.value, same)
    high = joined(first.high - first.value, second.value - second.low, same)
    p = sign_flip_p(exchanges(sides[0], sides[1], positive, clusters))
    return Difference(Estimate(value, (value - low, value + high), len(positive)), p)


def classes(scores: ArrayLike, labels: ArrayLike) -> Bool[np.ndarray, " text"]:
    """Which texts are positive; refused unless every score has a label and both classes are there."""
    positive = np.asarray(labels, dtype=bool)
    if np.shape(scores) != positive.shape:
        raise ValueError(f"An AUC needs one label per score; got {np.size(scores)} scores and {len(positive)} labels.")
    n_positive = int(positive.sum())
    if not 0 < n_positive < len(positive):
        raise ValueError(
            f"An AUC needs both classes; got {n_positive} positives and {len(positive) - n_positive} negatives."
        )
    return positive


def ranked_above(score: Float[np.ndarray, " text"], positive: Bool[np.ndarray, " text"]) -> float:
    """The AUC alone, from the sum of the positives' ranks."""
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    return float((rankdata(score)[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def placements(score: Float[np.ndarray, " text"], positive: Bool[np.ndarray, " text"]) -> Float[np.ndarray, " text"]:
    """For each text the share of the other class that lies on its right side, a tie counting half."""
    found, ranks = np.empty(len(score)), rankdata(score)
    found[positive] = (ranks[positive] - rankdata(score[positive])) / (~positive).sum()
    found[~positive] = 1 - (ranks[~positive] - rankdata(score[~positive])) / positive.sum()
    return found


def newcombe(value: float, n_positive: float, n_negative: float) -> Interval:
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


def added(
    placed: Float[np.ndarray, " text"], positive: Bool[np.ndarray, " text"], clusters: Clusters | None
) -> Float[np.ndarray, " cluster"]:
    """What each cluster adds to an AUC, above what it would add were all clusters alike."""
    centred = np.empty(len(placed))
    for side in (positive, ~positive):
        centred[side] = (placed[side] - placed[side].mean()) / side.sum()
    return totals(centred, clusters)[0]


def variance_of(parts: Float[np.ndarray, " cluster"]) -> float:
    """Of an AUC, from what each cluster adds (Obuchowski 1997; of single texts DeLong et al. 1988)."""
    return float(parts @ parts) * len(parts) / max(1, len(parts) - 1)


def correlation(a: Float[np.ndarray, " cluster"], b: Float[np.ndarray, " cluster"]) -> float:
    """Of two AUCs on the same texts; just below 1 at most, since no number of clusters shows that two are the same."""
    size = sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size * (1 - 1 / len(a)) if size else 0.0


def joined(a: float, b: float, correlation: float) -> float:
    """How far a difference reaches to one side, from how far its two parts do."""
    return sqrt(max(0.0, a * a + b * b - 2 * correlation * a * b))


def exchanges(
    a: Float[np.ndarray, " text"],
    b: Float[np.ndarray, " text"],
    positive: Bool[np.ndarray, " text"],
    clusters: Clusters | None,
) -> Float[np.ndarray, " cluster"]:
    """The difference of two AUCs as a sum over clusters, whose sign flips where a cluster's texts exchange their ranks.

    It is the difference of placements among both scorers' ranks together: of a pair of texts, a positive and a negative
    one, what changes when one of them exchanges its ranks is half its own and half the other's.
    """
    n = len(positive)
    ranks = np.concatenate([rankdata(a), rankdata(b)])
    placed = placements(ranks, np.tile(positive, 2))
    apart = (placed[:n] - placed[n:]) / np.where(positive, positive.sum(), (~positive).sum())
    return totals(apart, clusters)[0]
