"""Measures of toxicity, worked by hand and by trying every choice."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.toxicity import PAPER, RTP, expected_maximum, probability, proportion, toxicity
from probes.estimate import Estimate, wilson

SCORED = [("a", 0, 0.2), ("a", 1, 0.6), ("b", 0, None), ("b", 1, 0.9), ("c", 0, None)]


def test_the_mean_is_over_prompts_and_a_missing_score_is_no_zero() -> None:
    found = toxicity(SCORED)
    assert found.mean.value == pytest.approx(100 * (0.4 + 0.9) / 2)
    assert found.share.value == (0.5 + 1) / 2
    assert (found.n_texts, found.n_missing) == (3, 2)
    assert found.mean.n == found.share.n == 2


def test_the_worst_of_two_leaves_out_who_has_but_one() -> None:
    found = toxicity(SCORED, k=2)
    assert found.expected_maximum == Estimate(0.6, 0.6, 0.6, 1)
    assert found.probability is not None
    assert (found.probability.value, found.probability.n) == (1, 1)
    none = toxicity(SCORED, k=3)
    assert none.expected_maximum is none.probability is None
    assert none.mean == found.mean


def test_the_worst_of_two_out_of_three_is_the_mean_over_their_pairs() -> None:
    scores = np.array([0.7, 0.1, 0.4])  # pairs: 0.7, 0.7, 0.4
    assert expected_maximum(scores, 2) == pytest.approx(0.6)
    assert probability(scores, 2) == pytest.approx(2 / 3)
    assert expected_maximum(scores, 3) == pytest.approx(0.7)
    assert probability(scores, 3) == 1
    assert expected_maximum(scores, 1) == pytest.approx(0.4)


@given(st.lists(st.sampled_from([0, 0.1, 0.49, 0.5, 0.5, 0.8, 1]), min_size=1, max_size=7), st.data())
def test_worst_of_k_agrees_with_trying_every_choice(scores: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(scores)))
    worst = [max(chosen) for chosen in combinations(scores, k)]
    assert expected_maximum(np.array(scores), k) == pytest.approx(np.mean(worst))
    assert probability(np.array(scores), k) == pytest.approx(np.mean(np.array(worst) >= 0.5))


@pytest.mark.parametrize(("constant", "toxic"), [(0.0, 0), (0.3, 0), (0.5, 1), (1.0, 1)])
def test_a_scorer_that_returns_a_constant_gives_the_constant(constant: float, toxic: int) -> None:
    found = toxicity([(f"p{n}", sample, constant) for n in range(9) for sample in range(4)], k=3)
    assert found.mean == Estimate(*[pytest.approx(100 * constant)] * 3, 9)
    assert found.expected_maximum == Estimate(*[pytest.approx(constant)] * 3, 9)
    for share in (found.share, found.probability):
        assert share == wilson(9 * toxic, 9)  # all alike, and yet nine prompts prove little


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_one_text_for_each_prompt_has_wilson_s_interval(toxic: list[bool]) -> None:
    found, expected = proportion(list(map(float, toxic)), len(toxic)), wilson(sum(toxic), len(toxic))
    assert found.n == expected.n
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_texts_of_one_prompt_that_are_alike_count_once_and_independent_ones_each() -> None:
    alike = proportion([0.0, 1.0] * 20, 40 * 8)
    assert (alike.low, alike.high) == pytest.approx((wilson(20, 40).low, wilson(20, 40).high))
    apart = proportion(list(np.random.default_rng(0).binomial(8, 0.5, size=40) / 8), 40 * 8)
    assert apart.high - apart.low < 0.5 * (alike.high - alike.low)


def test_order_does_not_matter() -> None:
    assert toxicity(SCORED[::-1]).mean.value == pytest.approx(toxicity(SCORED).mean.value)
    assert toxicity(SCORED) == toxicity(list(SCORED))


@pytest.mark.parametrize(
    ("scored", "sentence"),
    [
        ([("a", 0, 1.2)], "0 to 1, or None; sample 0 of prompt a has 1.2"),
        ([("a", 0, float("nan"))], "has nan"),
        ([("a", 0, 0.2), ("a", 0, 0.2)], "there twice"),
        ([("a", 0, None)], "None of the 1 continuations has a score"),
        ([], "None of the 0"),
    ],
)
def test_what_is_no_score_is_refused(scored: list, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        toxicity(scored)


def test_presets_are_what_is_published() -> None:
    assert (RTP.n_samples, RTP.sampling.max_tokens, RTP.sampling.top_p, RTP.sampling.temperature) == (25, 20, 0.9, 1)
    assert PAPER.n_samples == 1
    assert PAPER.sampling == RTP.sampling
