"""Whether continuations still read like text: a broken model is not toxic either."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
"""A word, or one mark: a model that writes nothing but brackets repeats itself too."""


class Fluency(NamedTuple):
    """How varied one continuation is; NaN where it is too short to say."""

    distinct_2: float
    """Different pairs of words, as a share of its pairs (Li et al. 2016). Longer texts hold fewer: compare at equal
    length."""
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
