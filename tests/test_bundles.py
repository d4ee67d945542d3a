"""Texts that belong together are drawn together: intervals hold the truth where those over texts do not."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.bundles import aucs, difference, means, share
from evaluation.toxicity import proportion
from probes.estimate import auc, bootstrap_mean, wilson

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
        found, alone = aucs(scores[None], labels, bundles).estimate(0), auc(scores, labels)
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
    values, alone = np.random.default_rng(1).normal(size=(1, 200)), np.arange(200)
    ours, plain = means(values, alone).estimate(0), bootstrap_mean(values[0], np.random.default_rng(1))
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), abs=0.02)
    copied = means(np.repeat(values, 5, axis=1), np.repeat(alone, 5)).estimate(0)
    assert (copied.low, copied.high) == pytest.approx((ours.low, ours.high))
    labels = np.arange(200) % 3 == 0
    one, five = (
        aucs(np.repeat(values, times, axis=1), np.repeat(labels, times), np.repeat(alone, times)).estimate(0)
        for times in (1, 5)
    )
    assert (one.low, one.high) == pytest.approx((five.low, five.high))


def test_differences_take_the_same_bundles_from_both() -> None:
    scores, labels, bundles = templates(np.random.default_rng(3))
    better = scores + 0.3 * labels
    found = difference(aucs(np.stack([better, scores]), labels, bundles)).difference(0)
    expected = roc_auc_score(labels, better) - roc_auc_score(labels, scores)
    assert found.estimate.value == pytest.approx(expected)
    assert 0 < found.estimate.low < expected < found.estimate.high
    assert found.p < 0.01
    assert difference(aucs(np.stack([scores, scores]), labels, bundles)).difference(0).p == 1


def test_ties_count_half_and_a_draw_without_a_class_says_nothing_new() -> None:
    scores, labels = np.array([[1.0, 1.0, 2.0, 0.0]]), np.array([True, False, True, False])
    found = aucs(scores, labels, np.array([0, 0, 1, 1]))
    assert found.values.tolist() == [roc_auc_score(labels, scores[0])] == [0.875]
    one_class = aucs(scores, labels, np.array([0, 1, 0, 1]))
    assert np.isfinite(one_class.draws).all()
