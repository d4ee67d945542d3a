"""Texts that belong together are drawn together: intervals hold the truth where those over texts do not."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.resample import drawn_rows
from evaluation.toxicity import proportion
from probes.differences import estimate_mean, paired_difference
from probes.estimate import share, wilson
from probes.ranks import auc, auc_difference

N_RUNS = 200


def templates(rng: np.random.Generator, n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels and clusters of templates with 1 or 7 texts, all of one label, which score much alike."""
    clusters = np.repeat(np.arange(n), rng.choice([1, 7], size=n))
    scores = rng.normal(size=n)[clusters] + 0.5 * rng.normal(size=len(clusters))
    return scores, (np.arange(n) % 2 == 0)[clusters], clusters


def test_the_auc_of_templates_is_covered_where_newcombe_s_is_not() -> None:
    rng, ours, theirs = np.random.default_rng(0), 0, 0
    for _ in range(N_RUNS):
        scores, labels, clusters = templates(rng)
        found, alone = auc(scores, labels, clusters), auc(scores, labels)
        assert (found.value, found.n) == (pytest.approx(alone.value), alone.n)
        ours += found.low <= 0.5 <= found.high
        theirs += alone.low <= 0.5 <= alone.high
    assert ours >= 0.92 * N_RUNS
    assert theirs <= 0.75 * N_RUNS


def test_a_share_of_templates_is_covered_where_wilson_s_is_not() -> None:
    rng, ours, theirs = np.random.default_rng(0), 0, 0
    for _ in range(N_RUNS):
        scores, _, clusters = templates(rng)
        hits = scores > 1.5  # of a normal variable with variance 1.25: 9.0 %
        found, alone = share(hits, clusters), wilson(int(hits.sum()), len(hits))
        assert (found.value, found.n) == (alone.value, alone.n)
        ours += found.low <= 0.0899 <= found.high
        theirs += alone.low <= 0.0899 <= alone.high
    assert ours >= 0.93 * N_RUNS
    assert theirs <= 0.8 * N_RUNS


def test_of_equal_clusters_the_share_is_that_of_prompts() -> None:
    hits = np.random.default_rng(0).random((40, 3)) < np.linspace(0, 0.6, 40)[:, None]
    ours = share(hits.ravel(), np.repeat(np.arange(40), 3))
    theirs = proportion(hits.mean(axis=1).tolist(), 120)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high))


def test_clusters_of_one_text_are_the_bootstrap_over_texts_and_copies_add_nothing() -> None:
    values, alone = np.random.default_rng(1).normal(size=200), np.arange(200)
    plain, ours = (estimate_mean(values, np.random.default_rng(0), clusters) for clusters in (None, alone))
    assert ours == plain
    copied = estimate_mean(np.repeat(values, 5), np.random.default_rng(0), np.repeat(alone, 5))
    assert copied.interval == pytest.approx(ours.interval)
    few = estimate_mean(values[:9], np.random.default_rng(0))
    assert estimate_mean(np.repeat(values[:9], 5), np.random.default_rng(0), np.repeat(alone[:9], 5)).interval == (
        pytest.approx(few.interval)
    )


def test_a_paired_difference_of_templates_is_covered_where_that_of_texts_is_not() -> None:
    rng, ours, theirs = np.random.default_rng(0), 0, 0
    for n in [10, 60] * (N_RUNS // 2):
        scores, _, clusters = templates(rng, n)
        nothing = np.zeros(len(scores))
        ours += paired_difference(scores, nothing, rng, clusters, draws=500).p < 0.05
        theirs += paired_difference(scores, nothing, rng, draws=500).p < 0.05
    assert ours <= 0.08 * N_RUNS
    assert theirs >= 0.2 * N_RUNS


def test_an_auc_of_single_texts_has_newcombe_s_interval_and_copies_add_nothing() -> None:
    scores, labels, alone = np.random.default_rng(1).normal(size=200), np.arange(200) % 3 == 0, np.arange(200)
    for these in (scores, scores + 9 * labels):  # the latter never overlap
        one = auc(these, labels, alone)
        newcombe = auc(these, labels)
        assert (one.value, one.low, one.high) == pytest.approx((newcombe.value, newcombe.low, newcombe.high))
        five = auc(*(np.repeat(part, 5) for part in (these, labels, alone)))
        assert (five.value, five.low, five.high) == pytest.approx((one.value, one.low, one.high), abs=0.002)


def test_a_difference_of_aucs_is_that_of_a_bootstrap_over_clusters_and_copies_add_nothing() -> None:
    rng = np.random.default_rng(3)
    scores, labels, clusters = templates(rng)
    better = scores + 0.3 * labels
    found = auc_difference(better, scores, labels, clusters)
    assert found.estimate.value == pytest.approx(roc_auc_score(labels, better) - roc_auc_score(labels, scores))
    draws = []
    for rows in drawn_rows(clusters, 400):
        draws.append(roc_auc_score(labels[rows], better[rows]) - roc_auc_score(labels[rows], scores[rows]))
    assert found.estimate.interval == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.03)
    alone = np.arange(len(labels))
    one, five = (
        auc_difference(*(np.repeat(part, times) for part in (better, scores, labels, alone))) for times in (1, 5)
    )
    assert five.estimate.interval == pytest.approx(one.estimate.interval, abs=0.002)
    assert five.p == pytest.approx(one.p, abs=0.002)
    assert found.estimate.low < one.estimate.low
    assert auc_difference(scores, scores, labels, clusters).p == 1


def test_a_difference_of_aucs_of_templates_is_covered() -> None:
    rng, covered = np.random.default_rng(5), 0
    for _ in range(N_RUNS):
        scores, labels, clusters = templates(rng)
        other = scores + 0.7 * rng.normal(size=80)[clusters]
        found = auc_difference(other, scores, labels, clusters).estimate  # both know nothing
        covered += found.low <= 0 <= found.high
    assert covered >= 0.92 * N_RUNS
