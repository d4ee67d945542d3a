"""Intervals cover the truth as often as they say, and the ranks survive ties."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from probes.differences import estimate_mean, paired_difference, unpaired_difference
from probes.estimate import Estimate, wilson
from probes.ranks import auc, auc_difference


def test_wilson_is_the_textbook_interval():
    road = stats.binomtest(62, 80).proportion_ci(method="wilson")
    ours = wilson(62, 80)
    assert (ours.low, ours.high) == pytest.approx((road.low, road.high), abs=1e-12)
    assert wilson(0, 12).low == 0
    assert wilson(0, 12).high > 0.2
    assert wilson(12, 12).high == 1
    assert wilson(12, 12).low < 0.8


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_a_share_of_nothing_is_refused(k, n):
    with pytest.raises(ValueError, match="0 <= k <= n"):
        wilson(k, n)


def test_an_estimate_says_its_interval_and_n():
    assert str(wilson(62, 80)) == "0.775 [0.672, 0.853], n=80"
    assert f"{wilson(62, 80).scaled(100.0):.1f}" == "77.5 [67.2, 85.3]"
    assert wilson(62, 80).ends("+.2f") == "+0.67 to +0.85"


def test_an_estimate_without_an_interval_says_so_and_rules_nothing_out():
    one = Estimate(0.5, None, 1)
    assert str(one) == "0.500, no interval (n = 1)"
    assert f"{one.scaled(100.0):+.1f}" == "+50.0, no interval (n = 1)"
    assert one.holds(-3)
    assert Estimate.of(one.row) == one
    assert Estimate.of(wilson(62, 80).row) == wilson(62, 80)
    with pytest.raises(ValueError, match="n = 1 has no interval"):
        one.low  # noqa: B018


def test_auc_counts_a_tie_as_half():
    assert auc([1, 1, 1, 1], [True, False, True, False]).value == 0.5
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 5, 200), rng.random(200) < 0.3
    assert auc(scores, labels).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_auc_of_separate_classes_still_has_an_interval():
    apart = auc([1, 2, 3, 4, 5, 6], [False, False, False, True, True, True])
    assert apart.value == apart.high == 1
    assert 0.4 < apart.low < 0.8


def test_auc_interval_covers_the_true_value():
    rng, truth = np.random.default_rng(1), stats.norm.cdf(1 / np.sqrt(2))
    labels = np.arange(80) < 30
    hits = [e.low <= truth <= e.high for e in (auc(rng.normal(size=80) + labels, labels) for _ in range(400))]
    assert 0.92 < np.mean(hits) < 0.98


def test_auc_needs_both_classes():
    with pytest.raises(ValueError, match="both classes"):
        auc([0.1, 0.2], [True, True])


def test_bootstrap_of_a_mean_agrees_with_the_normal_formula():
    values = np.random.default_rng(2).normal(3, 2, 400)
    estimate, half = estimate_mean(values, np.random.default_rng(0)), 1.96 * values.std() / 20
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_pairing_finds_what_the_spread_between_texts_hides():
    rng = np.random.default_rng(3)
    text = rng.normal(0, 5, 300)
    a, b = text + 0.2 + rng.normal(0, 0.5, 300), text
    paired, unpaired = paired_difference(a, b, rng), unpaired_difference(a, b, rng, draws=500)
    assert paired.p < 0.01
    assert paired.estimate.low > 0
    assert unpaired.p > 0.2
    assert paired.estimate.value == pytest.approx(unpaired.estimate.value)


def test_p_and_interval_tell_the_same_story():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        difference = paired_difference(rng.normal(0.2, 1, 100), np.zeros(100), rng, draws=2000)
        outside = not difference.estimate.low <= 0 <= difference.estimate.high
        assert outside == (difference.p < 0.05) or abs(difference.p - 0.05) < 0.002


def test_no_difference_is_found_between_equals():
    rng, wrong = np.random.default_rng(4), 0
    for _ in range(200):
        wrong += paired_difference(rng.normal(size=60), rng.normal(size=60), rng, draws=400).p < 0.05
    assert wrong < 20  # 10 are expected
    same = paired_difference(np.ones(5), np.ones(5), rng)
    assert same.p == 1
    assert same.estimate.low == same.estimate.high == 0


def test_not_a_number_is_refused():
    with pytest.raises(ValueError, match="finite"):
        estimate_mean([1.0, np.nan], np.random.default_rng(0))
    with pytest.raises(ValueError, match="equal length"):
        paired_difference([1.0], [1.0, 2.0], np.random.default_rng(0))


def test_a_difference_of_aucs_is_that_of_a_bootstrap_over_texts():
    rng = np.random.default_rng(3)
    labels = rng.random(300) < 0.4
    a, b = (np.round(labels * shift + rng.normal(size=300), 1) for shift in (1.4, 0.6))  # rounded, so that some tie
    found = auc_difference(a, b, labels)
    assert found.estimate.value == pytest.approx(auc(a, labels).value - auc(b, labels).value, abs=1e-12)
    draws = []
    for _ in range(1000):
        rows = rng.integers(300, size=300)
        draws.append(roc_auc_score(labels[rows], a[rows]) - roc_auc_score(labels[rows], b[rows]))
    assert (found.estimate.low, found.estimate.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.015)
    assert found.p == pytest.approx(2 * stats.norm.sf(found.estimate.value / np.std(draws)), abs=0.01)


def test_aucs_of_the_same_scores_do_not_differ_and_of_no_signal_seldom():
    rng = np.random.default_rng(4)
    labels = np.arange(60) < 25
    same = auc_difference(labels + rng.normal(size=60), labels, labels)
    assert same.estimate.value < 0
    scores = rng.normal(size=60)
    assert (auc_difference(scores, scores, labels).estimate.value, auc_difference(scores, scores, labels).p) == (0, 1)
    found = [auc_difference(*rng.normal(size=(2, 60)), labels) for _ in range(1000)]
    assert np.mean([one.estimate.low <= 0 <= one.estimate.high for one in found]) == pytest.approx(0.95, abs=0.02)
    assert np.mean([one.p < 0.05 for one in found]) == pytest.approx(0.05, abs=0.02)
    with pytest.raises(ValueError, match="two texts of each class"):
        auc_difference([1, 2, 3], [1, 2, 4], [True, False, False])
