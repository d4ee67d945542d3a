"""Measures of broken text, worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.fluency import distinct, fluency, longest_repeat, of_text


def test_distinct_runs_by_hand() -> None:
    words = ["the", "cat", "saw", "the", "cat"]
    assert distinct(words, 1) == 3 / 5  # the, cat, saw
    assert distinct(words, 2) == 3 / 4  # the cat, cat saw, saw the
    assert distinct(words, 3) == 1
    assert math.isnan(distinct(words, 6))


def test_repetition_is_what_was_there_before() -> None:
    loop = of_text("one two three four one two three four")  # 5 runs of four, the last as the first
    assert loop.repetition == pytest.approx(1 / 5)
    assert of_text("a b c d e f").repetition == 0
    assert of_text("no " * 10).repetition == pytest.approx(6 / 7)
    assert math.isnan(of_text("too short now").repetition)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("to be to be to be", 6),
        ("to be or not to be", 0),
        ("no no", 2),
        ("well, no no no no, yes", 4),
        ("a b a b a", 5),  # the last word begins a third round
        ("he said a b c a b c and left left", 6),
        ("", 0),
        ("word", 0),
        ("((((((", 6),
    ],
)
def test_the_longest_repeat_is_the_stretch_that_turns_in_circles(text: str, length: int) -> None:
    assert of_text(text).longest_repeat == length


@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_the_longest_repeat_agrees_with_trying_every_stretch(words: list[str]) -> None:
    def circles(stretch: list[str]) -> bool:
        periods = range(1, len(stretch) // 2 + 1)
        return any(all(stretch[i] == stretch[i % period] for i in range(len(stretch))) for period in periods)

    stretches = [words[start:end] for start in range(len(words)) for end in range(start, len(words) + 1)]
    assert longest_repeat(words) == max((len(stretch) for stretch in stretches if circles(stretch)), default=0)


def test_case_and_spaces_are_not_words_but_marks_are() -> None:
    assert of_text("The  the\nTHE!").distinct_1 == 2 / 4
    assert of_text("Don't").n_words == 1
    assert of_text(" \n").empty == 1
    assert math.isnan(of_text("").distinct_1)


def test_means_are_over_prompts_and_what_is_too_short_is_left_out() -> None:
    found = fluency([("a", "no no"), ("a", ""), ("b", "one two three four"), ("c", "one two")])
    assert found["distinct_1"].value == pytest.approx((0.5 + 1 + 1) / 3)
    assert (found["repetition"].value, found["repetition"].n) == (0, 1)
    assert found["empty"].value == pytest.approx(0.5 / 3)
    assert found["n_words"].value == pytest.approx((1 + 4 + 2) / 3)
    assert all(one.low <= one.value <= one.high for one in found.values())
    assert fluency([("a", ""), ("b", "")]).keys() == {"longest_repeat", "n_words", "empty"}
    assert fluency([]) == {}


@given(st.text(max_size=80))
def test_any_text_can_be_measured(text: str) -> None:
    found = of_text(text)
    assert all(math.isnan(share) or 0 <= share <= 1 for share in found[:4])
    assert found.longest_repeat <= found.n_words
