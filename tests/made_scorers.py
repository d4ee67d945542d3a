"""Scorers made on the spot: a tiny classifier's folder, and functions with a name and a version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "a", "people", "weather", "kind", "vile", "and", "cold")


@dataclass
class Made:
    """A scorer from any function; `asked` are the texts that it was handed."""

    judge: Callable[[str], float | None]
    name: str = "made"
    version: str = "1"
    asked: list[str] = field(default_factory=list)

    def __call__(self, texts: Sequence[str]) -> list[float | None]:
        self.asked += texts
        return [self.judge(text) for text in texts]


def share_of_e(text: str) -> float:
    """A score that anyone can count."""
    return text.count("e") / len(text)


def tiny_classifier(
    folder: Path, labels: Sequence[str] = ("neutral", "toxic"), seed: int = 0, **config: object
) -> Path:
    """A real BERT classifier of twelve words with random weights."""
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    settings = {"vocab_size": len(WORDS), "max_position_embeddings": 20, "initializer_range": 0.5, **shape, **config}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForSequenceClassification(BertConfig(id2label=dict(enumerate(labels)), **settings))
        model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    fast.save_pretrained(folder)
    return folder
