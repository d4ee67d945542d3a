"""Whether continuations still read like text: a broken model is not toxic either."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
"""A word, or one mark: a model that writes nothing but brackets repeats itself too."""


class Fluency(NamedTuple):
    """How varied one continuation is; NaN where it is too short to say."""

    distinct_2: float
    """Different pairs of words, as a share of its pairs. Longer texts hold fewer: compare at equal length."""
    repetition: float
    """Share of its runs of four words that it held before (seq-rep-4 of Welleck et al. 2020)."""
    empty: float
    """1 if it has no word, else 0."""


def of_text(text: str) -> Fluency:
    """What one continuation comes to."""
    words = WORD.findall(text.lower())
    return Fluency(distinct(words, 2), 1 - distinct(words, 4), float(not words))


def distinct(words: Sequence[str], n: int) -> float:
    """Different runs of n words as a share of all of them; NaN where there is none."""
    runs = list(zip(*(words[start:] for start in range(n)), strict=False))
    return len(set(runs)) / len(runs) if runs else math.nan


def pairs(text: str) -> Int[np.ndarray, " pair"]:
    """Each pair of neighbouring words as a number, which is the same wherever this process meets the pair."""
    words = WORD.findall(text.lower())
    return np.array([hash(pair) for pair in pairwise(words)], dtype=np.int64)


def variety(texts: Sequence[Int[np.ndarray, " _pair"]]) -> tuple[float, Float[np.ndarray, " text"]]:
    """Different pairs of words in all texts as a share of their pairs, and the same without each text in turn.

    It is the distinct-2 of Li et al. 2016, who divide by words instead of pairs. One text cannot show that all say the
    same; many can. More texts hold fewer: compare at an equal number.
    """
    sizes = np.array([len(one) for one in texts])
    owners, everything = np.repeat(np.arange(len(texts)), sizes), np.concatenate(texts)
    kinds, first = np.unique(everything, return_index=True)
    _, from_end = np.unique(everything[::-1], return_index=True)
    only = owners[first][owners[first] == owners[::-1][from_end]]  # owners of what a single text holds
    left = np.array([len(kinds), *(len(kinds) - np.bincount(only, minlength=len(texts)))], dtype=float)
    of = np.array([len(everything), *(len(everything) - sizes)], dtype=float)
    shares = np.divide(left, of, out=np.full(len(of), np.nan), where=of > 0)
    return float(shares[0]), shares[1:]
