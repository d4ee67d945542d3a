"""Few values: intervals cover and p is uniform where a percentile bootstrap would find half of all noise."""

import numpy as np
import pytest
from scipy import stats

from evaluation.resample import jackknife, means
from probes.differences import SMALL, estimate_mean, paired_difference, unpaired_difference
from probes.estimate import Estimate, share
from probes.ranks import auc_difference

N_RUNS = 300
SIZES = (2, 3, 5, 8, 15, 30)


def most(rate: float, n_runs: int = N_RUNS) -> int:
    """So many events of that rate are exceeded once in a thousand times."""
    return int(stats.binom.ppf(0.999, n_runs, rate))


@pytest.mark.parametrize("n", SIZES)
def test_paired_noise_is_no_difference_and_its_interval_covers(n):
    rng, wrong, missed = np.random.default_rng(n), 0, 0
    for _ in range(N_RUNS):
        text = rng.normal(0, 5, n)
        found = paired_difference(text + rng.normal(size=n), text + rng.normal(size=n), rng, draws=1000)
        wrong += found.p < 0.05
        missed += not found.estimate.holds(0)
    assert wrong <= most(0.05)
    assert missed <= most(0.05)


@pytest.mark.parametrize("n", SIZES)
def test_means_of_few_values_and_of_few_prompts_cover_the_truth(n):
    rng = np.random.default_rng(n)
    values = rng.normal(3, 1, size=(N_RUNS, n))
    assert sum(not estimate_mean(row, rng).holds(3) for row in values) <= most(0.05)
    columns = means(values, n_draws=1000)
    assert sum(not columns.estimate(i).holds(3) for i in range(N_RUNS)) <= most(0.05)


@pytest.mark.parametrize("n", SIZES)
def test_two_samples_of_noise_do_not_differ(n):
    rng, wrong, missed = np.random.default_rng(n), 0, 0
    for _ in range(N_RUNS // 2):
        found = unpaired_difference(rng.normal(size=n), rng.normal(size=n + 1), rng, draws=500)
        wrong += found.p < 0.05
        missed += not found.estimate.holds(0)
    assert wrong <= most(0.05, N_RUNS // 2)
    assert missed <= most(0.05, N_RUNS // 2)


@pytest.mark.parametrize("n", [8, 15, 30, 60])
def test_two_scorers_that_rank_alike_do_not_differ(n):
    rng, wrong, missed = np.random.default_rng(n), 0, 0
    labels = np.arange(n) < 0.4 * n
    for _ in range(N_RUNS):
        both = rng.normal(size=n) + labels
        found = auc_difference(both + rng.normal(size=n), both + rng.normal(size=n), labels)
        wrong += found.p < 0.05
        missed += not found.estimate.holds(0)
    assert wrong <= most(0.05)
    assert missed <= most(0.05)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 13])
def test_p_of_few_pairs_is_counted_out(n):
    """All signs alike: of 2^n ways, the two in which none or all are flipped."""
    found = paired_difference(np.arange(1, n + 1), np.zeros(n), np.random.default_rng(0))
    assert found.p == pytest.approx(2.0 ** (1 - n))


def test_three_prompts_carry_no_certainty():
    """They gave p = 0.0002."""
    found = paired_difference([0.9, 0.8, 0.85], [0.1, 0.2, 0.12], np.random.default_rng(0))
    assert found.p == 0.25
    assert means(np.array([[0.8, 0.6, 0.73]])).difference(0).p == 0.25


def test_one_value_has_no_interval():
    rng = np.random.default_rng(0)
    assert estimate_mean([0.4], rng) == Estimate(0.4, None, 1)
    assert paired_difference([0.4], [0.1], rng).estimate.interval is None
    assert paired_difference([0.4], [0.1], rng).p == 1
    assert unpaired_difference([0.4], [0.1], rng).estimate.interval is None
    assert means(np.array([[0.4]])).estimate(0) == Estimate(0.4, None, 1)
    assert jackknife(0.4, np.array([0.4])).interval is None
    one_cluster = estimate_mean([0.4, 0.5, 0.6], rng, np.zeros(3, dtype=int))
    assert one_cluster == Estimate(0.5, None, 3)


def test_a_share_of_one_cluster_is_worth_one_text():
    alike = share(np.ones(50, dtype=bool), np.zeros(50, dtype=int))
    assert alike.interval == pytest.approx((0.025, 1))


@pytest.mark.parametrize("n", [1, 3, 59, 60, 200])
def test_numbers_that_are_equal_up_to_rounding_do_not_differ(n):
    rng = np.random.default_rng(0)
    for a, b in (
        (np.full(n, 0.1) + 0.2, np.full(n, 0.3)),
        (np.full(n, 0.7), np.full(n, np.float32(0.7))),
        (rng.random(n) * 100, None),
    ):
        other = a / 3 + a / 3 + a / 3 if b is None else b
        found = paired_difference(a, other, np.random.default_rng(0))
        assert (found.estimate.value, found.p) == (0, 1)
        assert found.estimate.holds(0)


def test_a_small_difference_that_is_none_of_rounding_is_found():
    found = paired_difference(np.full(40, 1.00001), np.ones(40), np.random.default_rng(0))
    assert found.estimate.value == pytest.approx(1e-5)
    assert found.p < 0.001


@pytest.mark.parametrize("n", [4, 6, 40, 2000])
def test_the_largest_difference_of_aucs_still_has_width_and_a_p(n):
    """It had neither: both scorers' placements do not vary at all."""
    labels, right = np.arange(n) < n // 2, -np.arange(n)
    found = auc_difference(right, -right, labels)
    assert found.estimate.value == found.estimate.high == 1
    assert found.estimate.low < 1 - 0.5 / n
    assert 0 < found.p <= max(0.001, 2.0 ** (1 - n))
    assert auc_difference(-right, right, labels).p == found.p


def test_two_scorers_without_a_mistake_may_still_differ():
    labels = np.arange(8) < 4
    found = auc_difference(labels + np.linspace(0, 0.5, 8), labels - np.linspace(0, 0.5, 8), labels)
    assert (found.estimate.value, found.p) == (0, 1)
    assert found.estimate.low < -0.2
    assert found.estimate.high > 0.2


def test_p_of_an_auc_difference_is_that_of_exchanging_ranks():
    """All 2^7 ways, each ranked anew."""
    rng = np.random.default_rng(1)
    labels, a, b = np.arange(7) < 3, rng.integers(0, 5, 7), rng.integers(0, 5, 7)
    ranks = np.stack([stats.rankdata(a), stats.rankdata(b)])

    def area(scores: np.ndarray) -> float:
        gaps = scores[labels][:, None] - scores[~labels]
        return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))

    ways = (np.arange(128)[:, None] >> np.arange(7)) & 1
    differences = np.array([area(ranks[way, range(7)]) - area(ranks[1 - way, range(7)]) for way in ways])
    observed = area(ranks[0]) - area(ranks[1])
    beyond = np.mean(differences >= observed - 1e-12), np.mean(differences <= observed + 1e-12)
    assert auc_difference(a, b, labels).p == pytest.approx(min(1, 2 * min(beyond)))


def test_from_sixty_on_intervals_are_the_bootstrap_s():
    values = np.random.default_rng(0).normal(size=SMALL)
    drawn = np.random.default_rng(5).integers(SMALL, size=(2000, SMALL))
    ends = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    assert estimate_mean(values, np.random.default_rng(5)).interval == pytest.approx(ends)
    half = stats.t.ppf(0.975, SMALL - 2) * values[1:].std(ddof=1) / np.sqrt(SMALL - 1)
    assert estimate_mean(values[1:], np.random.default_rng(5)).interval == pytest.approx(
        (values[1:].mean() - half, values[1:].mean() + half)
    )
