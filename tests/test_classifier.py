"""A classifier's folder becomes a scorer: the right label, the right probability, the same in any company."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import write_tiny_olmo
from made_scorers import tiny_classifier
from transformers import pipeline

from evaluation.classifier import DIGITS, Classifier

TEXTS = ["the people", "kind", "vile weather and the cold people", "a a a a a", "unheard words", "the " * 50]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("classifiers") / "tiny")


@pytest.mark.parametrize(
    "config",
    [
        {"labels": ("neutral", "toxic")},
        {"labels": ("toxic", "neutral"), "problem_type": "single_label_classification"},
        {"labels": ("obscene", "toxicity", "male"), "problem_type": "multi_label_classification"},
        {"labels": ("toxicity",)},
    ],
    ids=lambda config: "-".join(config["labels"]),
)
def test_the_score_is_what_the_pipeline_of_transformers_says_of_that_label(tmp_path: Path, config: dict) -> None:
    folder = tiny_classifier(tmp_path / "made", **config)
    says = pipeline("text-classification", model=str(folder), device="cpu", top_k=None)
    expected = [
        next(one["score"] for one in row if one["label"] in ("toxic", "toxicity"))
        for row in says(TEXTS, truncation=True, max_length=20)
    ]
    scores = Classifier.open(str(folder), device="cpu")(TEXTS)
    assert scores == pytest.approx(expected, abs=2 * 10**-DIGITS)  # float32 in batches of other lengths
    assert len(set(scores)) > 4


def test_a_text_scores_the_same_alone_and_in_company(folder: Path) -> None:
    classifier = Classifier.open(str(folder), device="cpu")
    many = [" ".join(TEXTS[i % 4 : i % 4 + 1 + i % 3]) for i in range(90)]  # three passes, mixed lengths
    assert classifier(many) == pytest.approx([classifier([text])[0] for text in many], abs=2 * 10**-DIGITS)
    assert classifier([]) == []


def test_half_a_character_costs_its_own_text_a_score_and_no_other(folder: Path) -> None:
    """Tokenizers take no lone surrogate, which JSON can write."""
    classifier = Classifier.open(str(folder), device="cpu")
    assert classifier(["kind", "kind \ud800", "vile"]) == [classifier(["kind"])[0], None, classifier(["vile"])[0]]
    assert classifier(["\udcff"]) == [None]


def test_a_text_too_long_is_read_from_its_beginning(folder: Path) -> None:
    classifier = Classifier.open(str(folder), device="cpu")
    assert classifier.longest == 20  # the positions of the config: the tokenizer names no limit
    assert classifier(["cold " * 18 + "vile " * 40]) == classifier(["cold " * 18])


def test_roberta_counts_its_positions_from_behind_the_padding() -> None:
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    from evaluation.classifier import longest

    config = RobertaConfig(
        vocab_size=12, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=14, pad_token_id=1,
    )  # fmt: skip
    model = RobertaForSequenceClassification(config).eval()
    n = longest(model, type("Boundless", (), {"model_max_length": int(1e30)}))
    assert n == 12
    model(torch.full((1, n), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, n + 1), 5))


def test_the_label_in_doubt_is_asked_for(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "doubt", labels=("LABEL_0", "LABEL_1"))
    with pytest.raises(ValueError, match=r"Which label of .* is meant.*#LABEL', LABEL one of: LABEL_0, LABEL_1"):
        Classifier.open(str(folder))
    with pytest.raises(ValueError, match="one of: LABEL_0, LABEL_1"):
        Classifier.open(f"{folder}#LABEL_7")
    one, other = (Classifier.open(f"{folder}#LABEL_{i}", device="cpu") for i in (0, 1))
    assert one(["kind"])[0] == pytest.approx(1 - other(["kind"])[0], abs=2 * 10**-DIGITS)
    assert (one.name, other.name) == ("doubt#LABEL_0", "doubt#LABEL_1")
    assert one.version != other.version


def test_name_and_version_say_which_weights_and_no_folder(folder: Path, tmp_path: Path) -> None:
    first = Classifier.open(str(folder), device="cpu")
    copy = Classifier.open(str(shutil.copytree(folder, tmp_path / "tiny")), device="cpu")
    other = Classifier.open(str(tiny_classifier(tmp_path / "other", seed=1)), device="cpu")
    assert first.name == copy.name == "tiny"
    assert first.version == copy.version != other.version


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"A folder or hub id with config.json, weights and tokenizer is expected"):
        Classifier.open(str(tmp_path))
    with pytest.raises(ValueError, match="is no finished classifier: it has no weights for"):
        Classifier.open(str(write_tiny_olmo(tmp_path / "olmo")))  # transformers would make up a head
    damaged = tiny_classifier(tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes((damaged / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be opened as a classifier of texts"):
        Classifier.open(str(damaged))
    regression = tiny_classifier(tmp_path / "regression", labels=("toxicity",), problem_type="regression")
    with pytest.raises(ValueError, match="gives no probabilities but numbers"):
        Classifier.open(str(regression))
