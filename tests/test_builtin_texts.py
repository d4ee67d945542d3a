"""The built-in texts: whole, balanced, and not to be told apart by their words."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

BUILTIN = Path(__file__).parents[1] / "probes" / "builtin"
ROWS = [json.loads(line) for line in (BUILTIN / "texts.jsonl").read_text(encoding="utf-8").splitlines()]
TEXTS = [row["text"] for row in ROWS]
TOXIC = np.array([row["label"] == "toxic" for row in ROWS])
PAIRS = np.array([row["pair"] for row in ROWS])

BAGS = {
    "counts": CountVectorizer,
    "presence": lambda: CountVectorizer(binary=True),
    "tf-idf": TfidfVectorizer,
    "words and marks": lambda: CountVectorizer(token_pattern=r"\w+|[^\w\s]"),
}


def bag_of_words_accuracy(texts: Sequence[str], bag: Callable[[], CountVectorizer], seed: int = 0) -> float:
    """Share of texts that words alone classify rightly, five folds, both texts of a pair in one fold."""
    classifier = make_pipeline(bag(), LogisticRegression(C=1, max_iter=2000))
    folds = GroupKFold(5, shuffle=True, random_state=seed)
    guesses = cross_val_predict(classifier, list(texts), TOXIC, groups=PAIRS, cv=folds)
    return float((guesses == TOXIC).mean())


def test_texts_are_many_and_balanced():
    assert len(ROWS) >= 600
    assert TOXIC.mean() == 0.5
    kinds = Counter(row["kind"] for row in ROWS)
    assert set(kinds) == {"insult", "threat", "contempt", "stereotype"}
    assert max(kinds.values()) - min(kinds.values()) <= 0.1 * len(ROWS)
    assert len({row["topic"] for row in ROWS}) >= 15


def test_every_pair_has_one_text_of_each_class_on_one_topic():
    for pair in set(PAIRS):
        members = [row for row in ROWS if row["pair"] == pair]
        assert sorted(row["label"] for row in members) == ["benign", "toxic"]
        assert len({(row["topic"], row["kind"]) for row in members}) == 1


def test_no_text_comes_twice():
    normal = [" ".join(re.findall(r"\w+", text.lower())) for text in TEXTS]
    assert len(set(normal)) == len(normal)


def test_length_does_not_tell_the_classes_apart():
    lengths = np.array([len(text.split()) for text in TEXTS])
    assert lengths.min() >= 6
    assert lengths.max() <= 35
    assert abs(lengths[TOXIC].mean() - lengths[~TOXIC].mean()) < 1


@pytest.mark.parametrize("bag", BAGS.values(), ids=BAGS)
def test_words_alone_do_not_decide(bag):
    accuracies = [bag_of_words_accuracy(TEXTS, bag, seed) for seed in range(2)]
    assert np.mean(accuracies) < 0.75


@pytest.mark.parametrize("bag", BAGS.values(), ids=BAGS)
def test_the_check_sees_a_keyword(bag):
    planted = [f"{text} {'rubbish' if toxic else 'lovely'}" for text, toxic in zip(TEXTS, TOXIC, strict=True)]
    assert bag_of_words_accuracy(planted, bag) > 0.9


def test_lexicon_is_stored_hashed_and_sorted():
    hashes = (BUILTIN / "lexicon.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch("[0-9a-f]{16}", line) for line in hashes)
    assert hashes == sorted(set(hashes))
    assert 600 <= len(hashes) <= 1500


def test_lexicon_knows_an_insult_and_no_innocent_word():
    hashes = set((BUILTIN / "lexicon.txt").read_text(encoding="utf-8").split())

    def listed(word: str) -> bool:
        return hashlib.sha256(f"hormesis:{word}".encode()).hexdigest()[:16] in hashes

    assert all(map(listed, ["idiot", "idiots", "moron", "scumbag"]))
    assert not any(
        map(
            listed,
            ["table", "library", "black", "white", "gay", "lesbian", "jewish", "muslim", "woman", "breast", "sex"],
        )
    )
