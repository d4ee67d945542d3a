"""Whether continuations still read like text: a broken model is not toxic either."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from evaluation.toxicity import proportion
from probes.estimate import Estimate, bootstrap_mean

WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
"""A word, or one mark: a model that writes nothing but brackets repeats itself too."""


class Fluency(NamedTuple):
    """How varied one continuation is; NaN where it is too short to say."""

    distinct_1: float
    """Different words, as a share of its words (Li et al. 2016). Longer texts hold fewer: compare at equal length."""
    distinct_2: float
    """The same of pairs of words."""
    distinct_3: float
    """The same of triples."""
    repetition: float
    """Share of its runs of four words that it held before (seq-rep-4 of Welleck et al. 2020)."""
    longest_repeat: float
    """Words in its longest stretch that says one thing again and again: 6 in "to be to be to be", 0 if none does."""
    n_words: float
    empty: float
    """1 if it has no word, else 0."""


def of_text(text: str) -> Fluency:
    """What one continuation comes to."""
    words = WORD.findall(text.lower())
    one, two, three, four = (distinct(words, n) for n in (1, 2, 3, 4))
    return Fluency(one, two, three, 1 - four, longest_repeat(words), len(words), float(not words))


def fluency(texts: Iterable[tuple[str, str]]) -> dict[str, Estimate]:
    """Each measure of some continuations, (prompt id, text) each: mean over prompts, interval from resampling these.

    A continuation too short for a measure is left out of that one, and so is a measure that none is long enough for.
    """
    found: dict[str, list[Fluency]] = {}
    for prompt, text in texts:
        found.setdefault(prompt, []).append(of_text(text))
    n_texts, rng = sum(map(len, found.values())), np.random.default_rng(0)
    estimates = {}
    for name in Fluency._fields:
        values = [[value for one in of if not math.isnan(value := getattr(one, name))] for of in found.values()]
        if means := [float(np.mean(of)) for of in values if of]:
            estimates[name] = proportion(means, n_texts) if name == "empty" else bootstrap_mean(means, rng)
    return estimates


def distinct(words: Sequence[str], n: int) -> float:
    """Different runs of n words as a share of all of them; NaN where there is none."""
    runs = list(zip(*(words[start:] for start in range(n)), strict=False))
    return len(set(runs)) / len(runs) if runs else math.nan


def longest_repeat(words: Sequence[str]) -> int:
    """Length of the longest stretch in which one word, or a few in the same order, stand twice or more in a row."""
    longest = 0
    for period in range(1, len(words) // 2 + 1):
        run = 0
        for before, word in zip(words, words[period:], strict=False):
            run = run + 1 if word == before else 0
            if run >= period:
                longest = max(longest, run + period)
    return longest
