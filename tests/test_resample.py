"""The bootstrap over prompts: coverage, pairing, and p adjusted for many comparisons."""

import numpy as np
import pytest
from scipy import stats

from evaluation.fluency import variety
from evaluation.resample import holm, jackknife, means
from probes.differences import estimate_mean, paired_difference


def clustered(rng: np.random.Generator, n_sets: int, n_prompts: int, n_seeds: int) -> np.ndarray:
    """[set prompt seed]: texts to one prompt are alike."""
    return rng.normal(size=(n_sets, n_prompts, 1)) + 2 * rng.normal(size=(n_sets, n_prompts, n_seeds))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    data = clustered(np.random.default_rng(0), 1000, 60, 3).mean(axis=2)
    found = [means(data[i : i + 1], n_draws=400, seed=i).estimate(0) for i in range(len(data))]
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    assert 0.93 <= covered <= 0.97


def test_drawing_seeds_inside_prompts_once_more_would_count_their_chance_twice() -> None:
    """Davison & Hinkley 1997, section 3.8: the variance of the mean is that of prompts' means over their number."""
    data, rng = clustered(np.random.default_rng(0), 1, 400, 3)[0], np.random.default_rng(1)
    truth = (1 + 4 / 3) / 400
    ours = means(data.mean(axis=1)[None]).draws.var()
    drawn = rng.integers(400, size=(1500, 400))
    seeds = rng.integers(3, size=(1500, 400, 3))
    twice = data[drawn[..., None], seeds].mean(axis=(1, 2)).var()
    assert ours == pytest.approx(truth, rel=0.15)
    assert twice > 1.2 * truth  # 1.38 in the long run


def test_a_column_agrees_with_the_plain_bootstrap() -> None:
    values = np.random.default_rng(0).normal(1, 1, 200)
    ours, plain = means(values[None]).estimate(0), estimate_mean(values, np.random.default_rng(1), draws=10_000)
    assert ours.value == pytest.approx(plain.value)
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), abs=0.02)  # other draws
    assert ours.n == 200


def test_a_difference_and_its_p_agree_with_the_paired_bootstrap() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.15, 1, 150), rng.normal(0, 1, 150)
    ours, plain = means((a - b)[None]).difference(0), paired_difference(a, b, np.random.default_rng(1))
    assert ours.p == pytest.approx(plain.p, abs=0.02)
    assert ours.estimate.low == pytest.approx(plain.estimate.low, abs=0.02)


def test_all_columns_share_their_draws_so_that_differences_are_paired() -> None:
    hard = np.random.default_rng(0).normal(0, 5, 100)
    found = means(np.stack([hard, hard + 0.1]))
    assert np.allclose(found.draws[:, 1] - found.draws[:, 0], 0.1)


def test_what_is_missing_is_left_out_and_never_zero() -> None:
    with_gap = np.array([[4.0, np.nan, 6.0], [1.0, 1.0, 1.0]])
    found = means(with_gap)
    assert found.values.tolist() == [5.0, 1.0]
    assert [found.estimate(column).n for column in (0, 1)] == [2, 3]
    assert found.draws[:, 0].min() >= 4
    with pytest.raises(ValueError, match="1 of 2 columns"):
        means(np.array([[np.nan, np.nan], [1.0, 2.0]]))


def test_many_prompts_are_drawn_in_pieces_of_the_same_stream() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3000))
    found = means(values, n_draws=3000)
    assert found.draws.shape == (3000, 2)
    assert found.draws.std(axis=0) == pytest.approx(values.std(axis=1) / np.sqrt(3000), rel=0.1)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_jackknife_of_a_mean_is_the_textbook_interval() -> None:
    values = np.random.default_rng(0).random(50)
    found = jackknife(values.mean(), (values.sum() - values) / 49)
    half = stats.t.ppf(0.975, 49) * values.std(ddof=1) / np.sqrt(50)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_the_variety_of_texts_is_covered_as_often_as_it_says() -> None:
    """Texts of 5 to 15 pairs out of 4,000 whose frequencies fall off as those of words do."""
    rng, chances = np.random.default_rng(0), 1 / np.arange(1, 4001)
    drawn = rng.choice(4000, size=(400, 60, 15), p=chances / chances.sum())
    sizes = rng.integers(5, 16, size=(400, 60))
    found = [variety([*map(np.resize, texts, n)]) for texts, n in zip(drawn, sizes, strict=True)]
    truth = np.mean([share for share, _ in found])
    kept = [one.low <= truth <= one.high for one in (jackknife(*pair) for pair in found)]
    assert 0.93 <= np.mean(kept) <= 0.99
