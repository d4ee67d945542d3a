"""How two scorers relate: against scipy, by hand, and where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evaluation.agree import NothingToRelate, agreement, correlation, pearson, picture, spearman, steps


def made(n: int, seed: int = 0, noise: float = 0.5) -> tuple[list[float], list[float]]:
    """Scores of two scorers that see the same thing, skewed as toxicity is."""
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=n)
    both = [1 / (1 + np.exp(2 - 2 * (seen + noise * rng.normal(size=n)))) for _ in range(2)]
    return both[0].round(2).tolist(), both[1].round(2).tolist()


def test_the_correlations_are_those_of_scipy() -> None:
    a, b = made(300)
    found = agreement("a", "b", a, b, np.random.default_rng(0))
    assert found.pearson.value == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
    assert found.spearman.value == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_the_interval_is_the_bootstrap_that_scipy_draws() -> None:
    x, y = map(np.array, made(200))
    found = agreement("a", "b", x.tolist(), y.tolist(), np.random.default_rng(0))
    for ours, statistic in ((found.pearson, stats.pearsonr), (found.spearman, stats.spearmanr)):
        drawn = stats.bootstrap(
            (x, y), lambda a, b, of=statistic: of(a, b).statistic, paired=True, vectorized=False, n_resamples=1000,
            method="percentile", rng=1,
        ).confidence_interval  # fmt: skip
        assert (ours.low, ours.high) == pytest.approx((drawn.low, drawn.high), abs=0.015)  # each of 1,000 draws


def test_few_texts_have_fisher_s_interval_and_three_or_a_perfect_line_none() -> None:
    x, y = map(np.array, made(12))
    ends = stats.pearsonr(x, y).confidence_interval()
    assert correlation(pearson, x, y).interval == pytest.approx((ends.low, ends.high))
    assert correlation(pearson, x[:3], y[:3]).interval is None
    assert correlation(spearman, x, np.exp(x)).interval is None


def test_a_scorer_agrees_with_itself_wholly_and_with_its_mirror_wholly_not() -> None:
    a, _ = made(100)
    same = agreement("a", "a", a, a, np.random.default_rng(0))
    assert (same.pearson.value, same.spearman.value, same.difference.value) == pytest.approx((1, 1, 0))
    assert same.first_auc is not None
    assert same.first_auc.value == 1
    mirror = agreement("a", "not a", a, [1 - score for score in a], np.random.default_rng(0))
    assert (mirror.pearson.value, mirror.spearman.value) == pytest.approx((-1, -1))
    assert mirror.first_auc is not None
    assert mirror.first_auc.value == 0


def test_each_judges_the_other_at_one_half() -> None:
    found = agreement("a", "b", [0.1, 0.2, 0.3, 0.9], [0.1, 0.6, 0.2, 0.4], np.random.default_rng(0))
    assert found.first_auc is not None
    assert found.second_auc is not None
    assert found.first_auc.value == pytest.approx(1 / 3)  # b calls the second text toxic: a puts it above one of three
    assert found.second_auc.value == pytest.approx(2 / 3)  # a calls the fourth toxic: b puts it above two of three


def test_where_one_calls_nothing_toxic_there_is_no_auc() -> None:
    found = agreement("a", "b", [0.1, 0.2, 0.9], [0.1, 0.3, 0.2], np.random.default_rng(0))
    assert found.first_auc is None
    assert found.second_auc is not None
    assert "| AUC of a at b ≥ 0.5 | — |" in str(found)


def test_missing_scores_are_left_out_in_pairs_and_counted() -> None:
    a, b = made(50)
    whole = agreement("a", "b", a, b, np.random.default_rng(0))
    holes = agreement("a", "b", [*a, None, 0.3, None], [*b, 0.5, None, None], np.random.default_rng(0))
    assert holes.missing == 3
    assert holes.pearson == whole.pearson
    assert holes.steps == whole.steps


def test_tenths_by_hand() -> None:
    x, y = np.array([0.0, 0.05, 0.1, 0.3, 0.95, 1.0]), np.array([0.2, 0.4, 0.6, 0.5, 0.7, 0.9])
    assert [(step.low, step.n, pytest.approx(step.median)) for step in steps(x, y)] == [
        (0.0, 2, 0.3), (0.1, 1, 0.6), (0.3, 1, 0.5), (0.9, 2, 0.8),
    ]  # fmt: skip
    assert steps(x, y)[0].quarter == pytest.approx(0.25)


def test_from_equal_scores_no_relation_is_read() -> None:
    for a, b in (([0.1, 0.1, 0.1], [0.1, 0.2, 0.3]), ([0.1, None, 0.3], [0.1, 0.2, 0.3]), ([], [])):
        with pytest.raises(NothingToRelate, match="Give more texts"):
            agreement("a", "b", a, b, np.random.default_rng(0))


def test_the_picture_is_the_same_twice() -> None:
    a, b = made(60)
    found = agreement("a $x$", "b_1", a, b, np.random.default_rng(0))
    drawn = picture(found, a, b)("svg")
    assert drawn == picture(found, a, b)("svg")
    assert "a $x$ (score, 0 to 1)" in drawn.decode()
