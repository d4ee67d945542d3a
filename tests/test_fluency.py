"""Measures of broken text, worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import made_results as made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.cells import read
from evaluation.compare import extract
from evaluation.extract import Extract
from evaluation.fluency import distinct, of_text, pairs, variety
from evaluation.report_tables import fluency


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


def test_variety_is_of_all_texts_together_and_without_each_in_turn() -> None:
    """Pairs: the cat, cat sat | the cat, cat ran | none | the cat, cat ran, ran ran, ran ran."""
    share, without = variety([*map(pairs, ("The cat sat", "the cat  ran", "no", "the cat ran ran ran"))])
    assert share == 4 / 8  # the cat, cat sat, cat ran, ran ran
    assert without.tolist() == [3 / 6, 4 / 6, 4 / 8, 3 / 4]


def test_one_sentence_to_every_prompt_and_a_loop_are_seen_where_single_texts_look_well() -> None:
    sentence = "a kind word is never lost on those who hear it"
    assert of_text(sentence)[:2] == (1, 0)
    assert variety([pairs(sentence)] * 50)[0] == 1 / 50
    assert variety([pairs(sentence)])[0] == 1
    assert np.isnan(variety([pairs("no"), pairs("pair")])[0])


@given(st.text(max_size=80))
def test_any_text_can_be_measured(text: str) -> None:
    assert all(math.isnan(share) or 0 <= share <= 1 for share in of_text(text))


def written(folder: Path, seeds: tuple[int, ...] = (0, 1)) -> Extract:
    """A plain model whose texts are all its own, and a steered one that says the same to every prompt."""
    rows = made.generations(shares=(0.0,), training_seeds=(0,), plans=("none", "iti@8"), n_prompts=30, seeds=seeds)
    rng = np.random.default_rng(0)
    for row in rows:
        for text in row["texts"]:
            own = " ".join(map("word{}".format, rng.integers(1000, size=9)))
            text["text"] = own if row["plan"] == "none" else "always the very same words"
    return extract(read([made.written(folder, rows[:-1])]), "demo")  # the last steered rows are not there yet


def test_a_cell_that_says_the_same_to_every_prompt_has_little_variety(tmp_path: Path) -> None:
    plain, broken = (one.measures for one in written(tmp_path).cells)
    assert plain["distinct_2"].value == broken["distinct_2"].value == 1
    assert plain["variety"].value == pytest.approx(1, abs=0.01)
    assert broken["variety"].value == 1 / 30  # of the first seed, which reached all prompts
    assert broken["variety"].high < plain["variety"].low


def test_what_older_results_did_not_measure_is_shown_as_missing(tmp_path: Path) -> None:
    found = written(tmp_path / "one", seeds=(0,))
    plain, broken = found.cells
    assert "variety" not in broken.measures  # no seed reached all prompts
    page = "\n".join(fluency(found))
    assert f"| {plain.checkpoint} | {plain.measures['variety'].value:.3f} / 1.000 / 0.000 | – / 1.000 / 0.000 |" in page
    older = {name: one for name, one in plain.measures.items() if name != "variety"}
    replace(found, cells=(replace(plain, measures=older),)).write(tmp_path / "older.json")
    assert "| – / 1.000 / 0.000 |" in "\n".join(fluency(Extract.read(tmp_path / "older.json")))
