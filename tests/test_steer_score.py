"""The score beside every text of the Steer tab: whose it is, what is scored, and what stands there without one."""

from __future__ import annotations

import re
from threading import Event

import pytest

from lens.bench import Bench
from steering.asked import asked
from steering.page import Pair, Picture, Scoring, Written
from steering.views import grow
from tests.test_steering_views import GIVEN, PROMPT, quiet

ABOUT = "Scored by letters 1; counts <letters> & nothing else."


def pictures(bench: Bench, scoring: Scoring | None) -> list[Picture]:
    return list(grow(bench, asked(bench, **{**GIVEN, "b": "tiny-b"}), Event(), quiet, scoring))


def test_each_text_has_the_score_of_its_own_words_without_the_prompt(bench: Bench) -> None:
    asked_for = list[str]()

    def length(texts: list[str]) -> list[float]:
        asked_for.extend(texts)
        return [len(text) / 1000 for text in texts]

    seen = pictures(bench, Scoring(length, ABOUT))
    for picture in seen:
        shown = [text for pair in picture.pairs for text in (pair.plain, pair.steered)]
        assert [text.score for text in shown] == [len(text.text) / 1000 for text in shown]
    assert len({text.score for text in shown}) > 1
    assert not any(text.startswith(PROMPT) for text in asked_for)
    assert re.findall(r"<b>([\d.]+)</b>", seen[-1].to_html(str)) == [f"{len(text.text) / 1000:.2f}" for text in shown]


def test_a_missing_score_is_a_dash_and_never_a_zero(bench: Bench) -> None:
    shown = pictures(bench, Scoring(lambda texts: [None] * len(texts), ABOUT))[-1].to_html(str)
    assert shown.count("<b>–</b>") == 4
    assert shown.count("Toxicity not known.") == 4
    assert "0.00" not in shown


def test_without_a_scorer_no_score_stands_anywhere(bench: Bench) -> None:
    assert "score" not in pictures(bench, None)[-1].to_html(str)


@pytest.mark.parametrize(("score", "aloud"), [(0.314, "Toxicity 0.31 of 1."), (None, "Toxicity not known.")])
def test_whose_score_it_is_stands_on_hover_and_is_read_out(score: float | None, aloud: str) -> None:
    pair = Pair("a", "", Written("x", 1, True, score), Written("y", 1, True, score))
    shown = Picture("They are", (pair,), "8 σ", scored_by=ABOUT).to_html(str)
    safe = "Scored by letters 1; counts &lt;letters&gt; &amp; nothing else."
    assert shown.count(f'title="{safe}"') == 2
    assert shown.count(f"{aloud} {safe}</span>") == 2
    assert "<letters>" not in shown
