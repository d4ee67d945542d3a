"""Intervals over texts that come in bundles, of one template or one pair say: bundles are drawn again, each whole.

A bundle is a number; texts of one number belong together (Davison & Hinkley 1997, section 3.8).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from evaluation.resample import Means, times_drawn
from evaluation.toxicity import korn_graubard
from probes.estimate import CHUNK, Estimate

DRAWS = 2000

Bundles = Int[np.ndarray, "text"]


def share(hits: Bool[np.ndarray, "text"], bundles: Bundles) -> Estimate:
    """The share of hits among texts, with the interval of Korn and Graubard (1998), by the variance of a ratio."""
    sizes, n = np.bincount(bundles), len(hits)
    value, n_bundles = float(np.mean(hits)), len(sizes)
    spread = np.bincount(bundles, weights=hits) - value * sizes
    variance = float(spread @ spread) / n**2 * n_bundles / max(1, n_bundles - 1)
    least = n**2 / float(sizes @ sizes)  # texts of one bundle all alike, bundles counted by their size
    return Estimate(value, *korn_graubard(value, variance, n_bundles, n, least), n)


def means(columns: Float[np.ndarray, "column text"], bundles: Bundles) -> Means:
    """The mean of each column over texts, all with the same draws."""
    sizes = np.bincount(bundles)
    totals = np.stack([np.bincount(bundles, weights=column) for column in columns], axis=1)
    draws = [times @ totals / (times @ sizes)[:, None] for times in times_drawn(len(sizes), DRAWS, seed=0)]
    return Means(columns.mean(axis=1), np.concatenate(draws), np.full(len(columns), len(bundles)))


def aucs(columns: Float[np.ndarray, "column text"], labels: Bool[np.ndarray, "text"], bundles: Bundles) -> Means:
    """How often a positive text outranks a negative one in each column of scores, all with the same draws."""
    once = np.ones((1, len(labels)))
    values = np.concatenate([_weighted(column, labels, once) for column in columns])
    drawn = [
        np.stack([_weighted(column, labels, weights) for column in columns], axis=1) for weights in _weights(bundles)
    ]
    draws = np.concatenate(drawn)
    return Means(values, np.where(np.isnan(draws), values, draws), np.full(len(columns), len(labels)))


def difference(found: Means) -> Means:
    """The first of two columns minus the second, draw by draw."""
    return Means(found.values[:1] - found.values[1:], found.draws[:, :1] - found.draws[:, 1:], found.n[:1])


def _weights(bundles: Bundles) -> Iterator[Float[np.ndarray, "draw text"]]:
    """How often each text is drawn, a few draws at a time."""
    for times in times_drawn(int(bundles.max()) + 1, DRAWS, seed=0):
        for some in np.array_split(times, 1 + len(times) * len(bundles) // CHUNK):
            yield some[:, bundles]


def _weighted(
    scores: Float[np.ndarray, "text"], labels: Bool[np.ndarray, "text"], weights: Float[np.ndarray, "draw text"]
) -> Float[np.ndarray, "draw"]:
    """AUC where texts count so often, a tie counting half; NaN where a class is not drawn."""
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    of_class = [np.add.reduceat(weights[:, order] * (labels[order] == side), starts, axis=1) for side in (True, False)]
    positive, negative = of_class
    wins = (positive * (np.cumsum(negative, axis=1) - negative / 2)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
