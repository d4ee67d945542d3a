"""Labelled texts on any concept, and splits that leak nothing from one side to the other."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lens.activations import digest_texts
from lens.line_reader import BadTexts
from lens.numeric import as_float, whole_number

TOXIC = ("toxic", "benign")
FEWEST = 2
"""Texts of each class to hold out, and to train on: of one alone, a probe's share right is 0 or 1 and has no spread."""

By = Literal["text", "group"]


@dataclass(frozen=True)
class LabelledText:
    """One text and whether it belongs to the positive class of its set."""

    text: str
    label: bool
    group: str = ""
    """What the harder split leaves out whole: the target group in ToxiGen, the topic in the built-in set."""
    pair: str = ""
    """Texts of one pair, or made from one template, are never on both sides of any split; empty: none."""


@dataclass(frozen=True)
class TextSet:
    """Texts of two classes; the set names them, nothing else knows the concept."""

    name: str
    texts: tuple[LabelledText, ...]
    classes: tuple[str, str] = TOXIC
    """Positive class first."""
    rule: str = "label"
    """How a label was made from what the file holds."""
    remark: str = ""
    """What whoever gave the texts should know, such as how many of them stand in both classes."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name) or self.name.startswith("."):
            raise BadTexts(f"A set's name becomes a file name: letters, digits, '-', '_' and '.'; got {self.name!r}.")
        n, n_positive = len(self.texts), sum(text.label for text in self.texts)
        if not 0 < n_positive < n:
            raise BadTexts(
                f"{self.name}: probes need texts of both classes; "
                f"got {n_positive} {self.classes[0]} and {n - n_positive} {self.classes[1]} by the rule {self.rule!r}."
            )

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def labels(self) -> np.ndarray:
        """[text], True for the positive class."""
        return np.array([text.label for text in self.texts])

    @property
    def majority(self) -> float:
        """Share of the larger class: the accuracy of whoever never looks at a text."""
        return float(max(self.labels.mean(), 1 - self.labels.mean()))

    @property
    def digest(self) -> str:
        """SHA-256 of texts and labels, in order."""
        return digest_texts([text.text for text in self.texts], [text.label for text in self.texts])


def normalised(text: str) -> str:
    """What two copies of one text have in common: its words, without case, spacing and punctuation."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", plain)) or plain.strip()


def split(texts: TextSet, held_out: float = 0.2, seed: int = 0, by: By = "text") -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train on and to hold out.

    "text" draws texts at random, as the paper does (4:1); copies of one text and the texts of a pair stay together.
    "group" holds whole groups out; the few texts of other groups that are copies or partners of a held-out one are
    then left out of both. The held-out share is met as closely as this allows.
    """
    share, seed = as_float(held_out), whole_number("seed", seed, 0)
    if share is None or not 0 < share < 1:
        raise ValueError(f"held_out is a share of the texts, so 0.2 and not 20; got {held_out!r}.")
    if by not in ("text", "group"):
        raise ValueError(f"A split is by 'text' or by 'group'; got {by!r}.")
    if by == "group" and (n := sum(not one.group for one in texts.texts)):
        raise BadTexts(
            f"{texts.name}: whole groups can be held out where each text has one, and {n:,} of {len(texts):,} have "
            "none. Give the texts a column 'group', or leave --by group away."
        )
    bundles, wanted = bundled(texts.texts, by), share * len(texts)
    test: list[int] = []
    for number in np.random.default_rng(seed).permutation(len(bundles)):
        if abs(len(test) + len(bundles[number]) - wanted) < abs(len(test) - wanted):
            test += bundles[number]
    taken, known = set(test), {bond for row in test for bond in bonds(texts.texts[row])}
    train = [row for row in range(len(texts)) if row not in taken and known.isdisjoint(bonds(texts.texts[row]))]
    for purpose, rows_of in (("train on", train), ("hold out", test)):
        n_positive = sum(texts.texts[row].label for row in rows_of)
        if min(n_positive, len(rows_of) - n_positive) < FEWEST:
            raise BadTexts(
                f"{texts.name}: a split by {by} with seed {seed} leaves too few texts of both classes to {purpose}: "
                f"{n_positive} {texts.classes[0]} and {len(rows_of) - n_positive} {texts.classes[1]}, where {FEWEST} "
                "of each are the fewest that show any spread. Give more texts, or another "
                "--held-out or --by."
            )
    return np.array(train), np.array(sorted(test))


def bonds(text: LabelledText) -> list[tuple[str, str]]:
    """What a text must not share with one on the other side."""
    return [("words", normalised(text.text)), *([("pair", text.pair)] if text.pair else [])]


def clusters_of(texts: Sequence[LabelledText], by: By) -> np.ndarray:
    """[text] the number of the cluster that each text belongs to, for intervals: what a split keeps together."""
    numbers = np.empty(len(texts), dtype=np.int64)
    for number, together in enumerate(bundled(texts, by)):
        numbers[together] = number
    return numbers


def bundled(texts: Sequence[LabelledText], by: By) -> list[list[int]]:
    """Rows that go to one side together: a whole group, or what shares words or a pair with each other."""
    parent = list(range(len(texts)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    first: dict[tuple[str, str], int] = {}
    for row, text in enumerate(texts):
        for bond in [("group", text.group)] if by == "group" and text.group else bonds(text):
            parent[root(row)] = root(first.setdefault(bond, row))
    bundles: dict[int, list[int]] = {}
    for row in range(len(texts)):
        bundles.setdefault(root(row), []).append(row)
    return list(bundles.values())
