"""Whatever the scorer: in order, no text twice, missing is missing and asked for again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from made_scorers import Made, share_of_e, tiny_classifier

from evaluation.cache import ScoreCache, text_sha
from evaluation.scorer import Cached, open_scorer

TEXTS = ["tea", "bee", "tea", "sun", "bee", "eel"]
SCORES = [1 / 3, 2 / 3, 1 / 3, 0, 2 / 3, 2 / 3]


def test_scores_come_in_order_and_no_text_is_scored_twice() -> None:
    made = Made(share_of_e)
    scorer = Cached(made, at_once=2)
    assert scorer(TEXTS) == pytest.approx(SCORES)
    assert made.asked == ["tea", "bee", "sun", "eel"]
    assert scorer([]) == []


def test_a_cache_answers_for_the_scorer_in_another_process_too(tmp_path: Path) -> None:
    Cached(Made(share_of_e), ScoreCache(tmp_path / "s", "made", "1"))(TEXTS)
    made = Made(share_of_e)
    assert Cached(made, ScoreCache(tmp_path / "s", "made", "1"))([*TEXTS, "pea"]) == pytest.approx([*SCORES, 1 / 3])
    assert made.asked == ["pea"]


def test_a_constant_scorer_gives_the_constant() -> None:
    assert Cached(Made(lambda text: 0.25))(TEXTS) == [0.25] * 6


def test_a_failure_is_missing_and_asked_for_again(tmp_path: Path) -> None:
    cache, fails = ScoreCache(tmp_path / "s", "made", "1"), {"bee"}
    made = Made(lambda text: None if text in fails else share_of_e(text))
    scorer = Cached(made, cache)
    assert scorer(["tea", "bee", "bee"]) == [1 / 3, None, None]
    assert scorer.missing == Counter({"not judged": 1})
    fails.clear()
    assert scorer(["tea", "bee"]) == [1 / 3, 2 / 3]
    assert made.asked == ["tea", "bee", "bee"]


def test_blank_texts_are_missing_with_every_scorer_and_counted() -> None:
    made = Made(lambda text: 0.0)
    scorer = Cached(made)
    assert scorer(["", "a", " \n\t", "\u3000"]) == [None, 0.0, None, None]
    assert made.asked == ["a"]
    assert scorer.missing == Counter(blank=3)


def test_what_was_scored_before_a_stop_is_kept(tmp_path: Path) -> None:
    cache = ScoreCache(tmp_path / "s", "made", "1")

    def stops(text: str) -> float:
        if text == "sun":
            raise RuntimeError("no more")
        return share_of_e(text)

    with pytest.raises(RuntimeError, match="no more"):
        Cached(Made(stops), cache, at_once=2)(TEXTS)
    assert set(cache.known([text_sha(text) for text in TEXTS])) == {text_sha("tea"), text_sha("bee")}


@pytest.mark.parametrize("wrong", [-0.01, 1.01, 87.0, float("nan")])
def test_a_scorer_that_breaks_its_promise_is_named(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"made gave a score of .* lie between 0 and 1"):
        Cached(Made(lambda text: wrong))(["tea"])


def test_a_scorer_that_loses_a_text_is_stopped() -> None:
    class Forgetful(Made):
        def __call__(self, texts):  # type: ignore[no-untyped-def]
            return super().__call__(texts)[1:]

    with pytest.raises(ValueError, match="zip"):
        Cached(Forgetful(share_of_e))(TEXTS)


def test_a_near_miss_is_offered() -> None:
    with pytest.raises(ValueError, match=r"no scorer 'perspektive'\. Did you mean 'perspective'\? There are: builtin"):
        open_scorer("perspektive", "none")


def test_a_folder_is_a_scorer_and_its_scores_are_kept_where_told(tmp_path: Path) -> None:
    scorer = open_scorer(str(tiny_classifier(tmp_path / "tiny")), tmp_path / "kept.sqlite")
    (score,) = scorer(["the people"])
    kept = ScoreCache(tmp_path / "kept.sqlite", "tiny", scorer.version).known([text_sha("the people")])
    assert list(kept.values()) == [score]
    assert open_scorer(str(tmp_path / "tiny"), "none").cache is None
