"""The scorer that ships: imitates the Perspective API's TOXICITY, reads English, needs no network (docs/scorer.md)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from evaluation.features import read_words
from lens import write_atomically

BUILTIN = Path(__file__).parent / "builtin" / "scorer.safetensors"
FORMAT = "1"
"""Of the file, and of how texts are read: 2 once a text is cut into words otherwise."""
CURE = "Bring it back (git checkout), or fit it anew: python -m evaluation fit-scorer --help"
AT_ONCE = 50_000  # characters: what is held of them stays in the processor's cache, however long the texts


@dataclass(frozen=True)
class BuiltinScorer:
    """A table of n-grams, a hidden layer and a logistic head; every text by itself, to the last digit."""

    table: np.ndarray
    """A vector for each n-gram's hash, [row dim], float16."""
    hidden: np.ndarray
    """From a text's features to the hidden layer, [feature unit]; features: maximum and scaled sum over words in each
    dim, and the logarithm of the number of words."""
    hidden_bias: np.ndarray
    out: np.ndarray
    """From the hidden layer to the logit, [unit]."""
    out_bias: np.ndarray
    """One number."""
    name: ClassVar[str] = "builtin"

    @cached_property
    def version(self) -> str:
        """Changes with the format and with any bit of any weight."""
        digest = hashlib.sha256()
        for name in WEIGHTS:
            array = getattr(self, name)
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
        return f"{FORMAT}-{digest.hexdigest()[:8]}"

    @classmethod
    def open(cls, path: Path = BUILTIN) -> BuiltinScorer:
        """The scorer in a file; refused where the weights are not those that the file names."""
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise FileNotFoundError(f"There is no scorer {path}. {CURE}")
        try:
            with safe_open(path, framework="np") as file:
                told = (file.metadata() or {}).get("version", "")
                scorer = cls(**{name: file.get_tensor(name) for name in WEIGHTS})
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is no scorer, or a damaged one: {error}. {CURE}") from error
        if told != scorer.version:
            raise ValueError(f"{path} calls itself {told!r}, but this program reads {scorer.version!r}. {CURE}")
        return scorer

    @cached_property
    def missing(self) -> Counter[str]:
        """Why texts have no score: how many so far, by kind."""
        return Counter()

    def save(self, path: Path, **metadata: str) -> None:
        """Write the weights, and beside the version whatever else is to be known of them."""
        from safetensors.numpy import save

        weights = {name: np.ascontiguousarray(getattr(self, name)) for name in WEIGHTS}
        write_atomically(path, save(weights, metadata={"version": self.version, **metadata}))

    def __call__(self, texts: Sequence[str]) -> list[float | None]:
        """Four decimals for each text; None where it has no word, which nobody can judge.

        A word is of letters, digits, ' * @ $ and any character beyond ASCII (`features.IN_WORDS`).
        """
        found: list[float | None] = []
        portion = np.cumsum([len(text) for text in texts]) // AT_ONCE
        cuts = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(texts)]
        for start, end in pairwise(cuts):
            found += self._scores(texts[start:end])
        self.missing["no letter or digit"] += found.count(None)
        return found

    def _scores(self, texts: Sequence[str]) -> list[float | None]:
        scores: list[float | None] = [None] * len(texts)
        spoken, units = self.units(texts)
        for row, score in zip(spoken, 1 / (1 + np.exp(-(units * self.out).sum(axis=1) - self.out_bias)), strict=True):
            scores[row] = round(float(score), 4)
        return scores

    def units(self, texts: Sequence[str]) -> tuple[Int[np.ndarray, " spoken"], Float[np.ndarray, "spoken unit"]]:
        """Places of the texts that have words, and the hidden layer for each of them."""
        words = read_words(texts, len(self.table))
        spoken = np.flatnonzero(words.n_words)
        if not len(spoken):
            return spoken, np.empty((0, len(self.out)))
        vectors = self.table[words.gram].astype(np.float32)
        each = np.add.reduceat(vectors, first_of(words.n_grams)) / np.sqrt(words.n_grams, dtype=np.float32)[:, None]
        return spoken, self._hidden_layer(each[words.word], words.n_words[spoken])

    def _hidden_layer(self, vectors: np.ndarray, n_words: np.ndarray) -> np.ndarray:
        """From the vectors of all words, text after text, [word dim], to the hidden layer.

        No matrix product: it would round one text differently in different company.
        """
        first, n = first_of(n_words), n_words.astype(np.float32)[:, None]
        pooled = np.maximum.reduceat(vectors, first), np.add.reduceat(vectors, first) / np.sqrt(n), np.log(n)
        features = np.concatenate(pooled, axis=1).astype(np.float64)
        return np.maximum((features[:, :, None] * self.hidden).sum(axis=1) + self.hidden_bias, 0)


WEIGHTS = tuple(field.name for field in fields(BuiltinScorer))


def first_of(lengths: np.ndarray) -> np.ndarray:
    """Where each of some stretches begins, one after the other."""
    return np.cumsum(lengths) - lengths


def is_scorer(path: Path) -> bool:
    """Whether a file is one that `BuiltinScorer.save` wrote, of whatever version."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return {*file.keys()} == {*WEIGHTS} and "version" in (file.metadata() or {})
    except SafetensorError:
        return False
