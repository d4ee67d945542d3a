"""Texts that belong together are drawn together: intervals hold the truth where those over texts do not."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.bundles import auc, auc_difference, mean, share
from evaluation.toxicity import proportion
from probes import estimate
from probes.estimate import bootstrap_mean, wilson

N_RUNS = 200


def templates(rng: np.random.Generator, n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels and bundles of templates with 1 or 7 texts, all of one label, which score much alike."""
    bundles = np.repeat(np.arange(n), rng.choice([1, 7], size=n))
    scores = rng.normal(size=n)[bundles] + 0.5 * rng.normal(size=len(bundles))
    return scores, (np.arange(n) % 2 == 0)[bundles], bundles


def test_the_auc_of_templates_is_covered_where_newcombe_s_is_not() -> None:
    rng, ours, theirs = np.random.default_rng(0), 0, 0
    for _ in range(N_RUNS):
        scores, labels, bundles = templates(rng)
        found, alone = auc(scores, labels, bundles), estimate.auc(scores, labels)
        assert (found.value, found.n) == (pytest.approx(alone.value), alone.n)
        ours += found.low <= 0.5 <= found.high
        theirs += alone.low <= 0.5 <= alone.high
    assert ours >= 0.92 * N_RUNS
    assert theirs <= 0.75 * N_RUNS


def test_a_share_of_templates_is_covered_where_wilson_s_is_not() -> None:
    rng, ours, theirs = np.random.default_rng(0), 0, 0
    for _ in range(N_RUNS):
        scores, _, bundles = templates(rng)
        hits = scores > 1.5  # of a normal variable with variance 1.25: 9.0 %
        found, alone = share(hits, bundles), wilson(int(hits.sum()), len(hits))
        assert (found.value, found.n) == (alone.value, alone.n)
        ours += found.low <= 0.0899 <= found.high
        theirs += alone.low <= 0.0899 <= alone.high
    assert ours >= 0.93 * N_RUNS
    assert theirs <= 0.8 * N_RUNS


def test_of_equal_bundles_the_share_is_that_of_prompts() -> None:
    hits = np.random.default_rng(0).random((40, 3)) < np.linspace(0, 0.6, 40)[:, None]
    ours = share(hits.ravel(), np.repeat(np.arange(40), 3))
    theirs = proportion(hits.mean(axis=1).tolist(), 120)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))


def test_bundles_of_one_text_are_the_bootstrap_over_texts_and_copies_add_nothing() -> None:
    values, alone = np.random.default_rng(1).normal(size=200), np.arange(200)
    ours, plain = mean(values, alone).estimate(0), bootstrap_mean(values, np.random.default_rng(1))
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), abs=0.02)
    copied = mean(np.repeat(values, 5), np.repeat(alone, 5)).estimate(0)
    assert (copied.low, copied.high) == pytest.approx((ours.low, ours.high))


def test_an_auc_of_single_texts_has_newcombe_s_interval_and_copies_add_nothing() -> None:
    scores, labels, alone = np.random.default_rng(1).normal(size=200), np.arange(200) % 3 == 0, np.arange(200)
    for these in (scores, scores + 9 * labels):  # the latter never overlap
        one = auc(these, labels, alone)
        newcombe = estimate.auc(these, labels)
        assert (one.value, one.low, one.high) == pytest.approx((newcombe.value, newcombe.low, newcombe.high))
        five = auc(*(np.repeat(part, 5) for part in (these, labels, alone)))
        assert (five.value, five.low, five.high) == pytest.approx((one.value, one.low, one.high), abs=0.002)


def test_a_difference_of_aucs_is_delong_s_where_texts_are_single_and_copies_add_nothing() -> None:
    scores, labels, bundles = templates(np.random.default_rng(3))
    better = scores + 0.3 * labels
    road, alone = estimate.auc_difference(better, scores, labels), np.arange(len(labels))
    one = auc_difference(better, scores, labels, alone)
    assert one.estimate.value == pytest.approx(roc_auc_score(labels, better) - roc_auc_score(labels, scores))
    assert (one.estimate.low, one.p) == pytest.approx((road.estimate.low, road.p), rel=0.02)  # n - 1 of all or of each
    five = auc_difference(*(np.repeat(part, 5) for part in (better, scores, labels, alone)))
    assert (five.estimate.low, five.estimate.high) == pytest.approx((one.estimate.low, one.estimate.high))
    assert auc_difference(better, scores, labels, bundles).estimate.low < one.estimate.low
    assert auc_difference(scores, scores, labels, bundles).p == 1


def test_a_difference_of_aucs_of_templates_is_covered() -> None:
    rng, covered = np.random.default_rng(5), 0
    for _ in range(N_RUNS):
        scores, labels, bundles = templates(rng)
        other = scores + 0.7 * rng.normal(size=80)[bundles]
        found = auc_difference(other, scores, labels, bundles).estimate  # both know nothing
        covered += found.low <= 0 <= found.high
    assert covered >= 0.92 * N_RUNS
