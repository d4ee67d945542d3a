"""Classifiers of texts from a Hugging Face folder or hub id, such as unitary/unbiased-toxic-roberta."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from lens.opening import resolve_device

TOXIC = ("toxicity", "toxic")
ROWS = 32  # texts in one pass
HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")  # tokenizers take none
DIGITS = 6  # padding to another length changes the seventh


@dataclass(frozen=True)
class Classifier:
    """The probability of one label; of a text longer than the classifier's context, its beginning is read."""

    name: str
    version: str
    """A digest of weights, tokenizer and label."""
    model: Any
    tokenizer: Any
    label: int
    longest: int
    """Tokens that the classifier reads at most."""

    @classmethod
    def open(cls, spec: str, device: str = "auto") -> Classifier:
        """Open "FOLDER" or "org/name", where no label is plainly the toxic one with "#LABEL" behind it."""
        where, _, asked = spec.partition("#")
        model, tokenizer = opened(where)
        label = label_of(where, model.config, asked)
        short = Path(where).resolve().name if Path(where).is_dir() else where  # results name no folders of a machine
        name = f"{short}#{asked}" if asked else short
        version = digest(model, tokenizer, label)
        return cls(name, version, model.to(resolve_device(device)), tokenizer, label, longest(model, tokenizer))

    def __call__(self, texts: Sequence[str]) -> list[float | None]:
        """One score per text, in order; None where the classifier gives no number, or cannot be given the text."""
        scores: list[float | None] = [None] * len(texts)
        whole = [i for i, text in enumerate(texts) if not HALF_A_CHARACTER.search(text)]
        order = sorted(whole, key=lambda i: len(texts[i]))  # similar lengths need little padding
        for start in range(0, len(order), ROWS):
            some = order[start : start + ROWS]
            for i, score in zip(some, self._pass([texts[i] for i in some]).tolist(), strict=True):
                scores[i] = None if math.isnan(score) else round(score, DIGITS)
        return scores

    @torch.inference_mode()
    def _pass(self, texts: Sequence[str]) -> Tensor:
        """The label's probability, [text]: of labels that exclude each other, or of one that stands alone."""
        batch = self.tokenizer(texts, truncation=True, max_length=self.longest, padding=True, return_tensors="pt")
        logits = self.model(**batch.to(self.model.device)).logits.float()
        config = self.model.config
        alone = config.problem_type == "multi_label_classification" or config.num_labels == 1
        return (logits.sigmoid() if alone else logits.softmax(-1))[:, self.label]


def opened(where: str) -> tuple[Any, Any]:
    """Model and tokenizer; a model whose head would be made up on the spot is refused."""
    logging.disable_progress_bar()
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(where, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"{where} cannot be opened as a classifier of texts: {str(error).splitlines()[0]} "
            "A folder or hub id with config.json, weights and tokenizer is expected."
        ) from error
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise ValueError(f"{where} is no finished classifier: it has no weights for {some}. Choose one that is.")
    return model.eval(), tokenizer


def label_of(where: str, config: Any, asked: str) -> int:
    """The number of the label that was asked for, or of the only one called toxic."""
    labels = {str(label).lower(): number for number, label in config.id2label.items()}
    found = [asked.lower()] if asked else [label for label in labels if label in TOXIC]
    if config.problem_type == "regression":
        raise ValueError(f"{where} gives no probabilities but numbers without bounds. Choose another classifier.")
    if len(found) != 1 or found[0] not in labels:
        names = ", ".join(config.id2label.values())
        raise ValueError(f"Which label of {where} is meant? Write '{where}#LABEL', LABEL one of: {names}.")
    return int(labels[found[0]])


def longest(model: Any, tokenizer: Any) -> int:
    """Tokens that fit: the tokenizer's word, or the model's positions, of which RoBERTa keeps the first for padding."""
    embeddings = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    kept = getattr(next(embeddings, None), "padding_idx", None)
    positions = getattr(model.config, "max_position_embeddings", tokenizer.model_max_length)
    return min(tokenizer.model_max_length, positions - (0 if kept is None else kept + 1))


def digest(model: Any, tokenizer: Any, label: int) -> str:
    """SHA-256 of all that decides a score, 12 characters."""
    found = sha256(f"{label} {model.config.problem_type} {tokenizer.backend_tokenizer.to_str()}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:12]
