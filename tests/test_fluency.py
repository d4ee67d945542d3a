"""Measures of broken text, worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.fluency import distinct, of_text


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


def test_case_and_spaces_are_not_words_but_marks_are() -> None:
    assert of_text("The  the\nTHE!").distinct_2 == 2 / 3  # the the, the the, the !
    assert math.isnan(of_text("Don't").distinct_2)  # one word has no pair
    assert of_text("Don't").empty == of_text("(").empty == 0
    assert of_text(" \n").empty == 1
    assert math.isnan(of_text("").distinct_2)


@given(st.text(max_size=80))
def test_any_text_can_be_measured(text: str) -> None:
    assert all(math.isnan(share) or 0 <= share <= 1 for share in of_text(text))
