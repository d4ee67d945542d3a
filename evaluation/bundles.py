"""Intervals over texts that come in bundles, of one template or one pair say, and do not err each for itself.

A text's bundle is a number, from 0 on without gaps; texts of one number belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import erfc, sqrt

import numpy as np
from jaxtyping import Bool, Float, Int

from evaluation.resample import Means, times_drawn
from evaluation.toxicity import korn_graubard
from probes.estimate import Difference, Estimate, Z, auc_interval, middle_95, placements
from probes.texts import LabelledText, bundled

DRAWS = 2000

Bundles = Int[np.ndarray, "text"]


def of_texts(texts: Sequence[LabelledText]) -> Bundles:
    """Copies of one text, and the texts of one pair or template."""
    numbers = np.empty(len(texts), dtype=np.int64)
    for number, together in enumerate(bundled(texts, "text")):
        numbers[together] = number
    return numbers


def some(bundles: Bundles, rows: np.ndarray) -> Bundles:
    """The bundles of some rows, numbered anew without gaps."""
    return np.unique(bundles[rows], return_inverse=True)[1]


def resampled(statistic: Callable[[np.ndarray], float], bundles: Bundles) -> Estimate:
    """A number of texts with its percentile bootstrap interval; it is told how often each text counts, [text]."""
    draws = [statistic(times[bundles]) for part in times_drawn(int(bundles.max()) + 1, DRAWS, 0) for times in part]
    return Estimate(statistic(np.ones(len(bundles))), *middle_95(np.array(draws)[np.isfinite(draws)]), len(bundles))


def share(hits: Bool[np.ndarray, " text"], bundles: Bundles) -> Estimate:
    """The share of hits among texts, with the interval of Korn and Graubard (1998), by the variance of a ratio."""
    sizes, n = np.bincount(bundles), len(hits)
    value, n_bundles = float(np.mean(hits)), len(sizes)
    spread = np.bincount(bundles, weights=hits) - value * sizes
    variance = float(spread @ spread) / n**2 * n_bundles / max(1, n_bundles - 1)
    least = n**2 / float(sizes @ sizes)  # texts of one bundle all alike, bundles counted by their size
    return Estimate(value, *korn_graubard(value, variance, n_bundles, n, least), n)


def mean(values: Float[np.ndarray, " text"], bundles: Bundles) -> Means:
    """The mean over texts, with draws of whole bundles."""
    sizes, sums = np.bincount(bundles), np.bincount(bundles, weights=values)
    draws = [times @ sums / (times @ sizes) for times in times_drawn(len(sizes), DRAWS, seed=0)]
    return Means(np.array([np.mean(values)]), np.concatenate(draws)[:, None], np.array([len(values)]))


def auc(scores: Float[np.ndarray, " text"], labels: Bool[np.ndarray, " text"], bundles: Bundles) -> Estimate:
    """How often a positive text outranks a negative one, with Newcombe's interval for fewer texts that vary as much."""
    ranked = placements(scores, labels)
    value, alone = float(ranked[labels].mean()), _variance(ranked, labels, np.arange(len(labels)))
    sizes = np.bincount(bundles)
    most = float(sizes @ sizes) / len(labels)  # times too many texts, if those of one bundle are all alike
    times = max(1.0, _variance(ranked, labels, bundles) / alone) if alone else most
    n_positive, n_negative = int(labels.sum()), int((~labels).sum())
    return Estimate(value, *auc_interval(value, n_positive / times, n_negative / times), len(labels))


def auc_difference(
    a: Float[np.ndarray, " text"], b: Float[np.ndarray, " text"], labels: Bool[np.ndarray, " text"], bundles: Bundles
) -> Difference:
    """AUC of the scores `a` minus that of `b` on the same texts, with the normal interval of Obuchowski (1997)."""
    ranked = placements(a, labels) - placements(b, labels)
    value, spread = float(ranked[labels].mean()), sqrt(_variance(ranked, labels, bundles))
    p = erfc(abs(value) / spread / sqrt(2)) if spread else float(value == 0)
    return Difference(Estimate(value, value - Z * spread, value + Z * spread, len(labels)), p)


def _variance(ranked: Float[np.ndarray, " text"], labels: Bool[np.ndarray, " text"], bundles: Bundles) -> float:
    """Of an AUC, from what each bundle adds to it (Obuchowski 1997; of single texts DeLong et al. 1988)."""
    added = np.empty(len(ranked))
    for side in (labels, ~labels):
        added[side] = (ranked[side] - ranked[side].mean()) / side.sum()
    sums = np.bincount(bundles, weights=added)
    return float(sums @ sums) * len(sums) / max(1, len(sums) - 1)
