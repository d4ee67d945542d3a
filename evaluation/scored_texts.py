"""Texts that the Perspective API has scored, and a split in which no document straddles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from lens.table_reader import number, open_table, text
from probes.text_files import open_texts
from probes.texts import BadTexts, LabelledText, TextSet, normalised

RUN = 8  # words in a row that make two texts near-duplicates
COLUMNS = (("text", "api"), ("comment_text", "TOXICITY@6"), ("text", "toxicity"))
"""Where a table of scored comments keeps text and score: Pavlopoulos et al. 2020, the API's own sample, plain."""


@dataclass(frozen=True)
class ScoredText:
    """A text, what the API gave it, and what it must not share with a text on the other side of a split."""

    text: str
    score: float
    source: str
    bonds: frozenset[str]
    is_prompt_set: bool
    """From RealToxicityPrompts, the kind of text that the scorer is for."""


def prompts_and_continuations(path: Path) -> Iterator[ScoredText]:
    """Both halves of each row of a RealToxicityPrompts file (Gehman et al. 2020); unscored halves are left out."""
    for place, row in open_table(path).rows:
        halves = {name: text(place, row, f"{name}.text") for name in ("prompt", "continuation")}
        bonds = runs("".join(halves.values())) | {normalised(halves["prompt"])}
        bonds |= {f"file {row['filename']}"} if "filename" in row else set()
        for name, half in halves.items():
            score = number(place, row, f"{name}.toxicity")
            if score is not None:
                yield ScoredText(half, score, f"{stem(path)}, {name}s", bonds, True)


def comments(path: Path) -> Iterator[ScoredText]:
    """The rows of a table of scored comments."""
    for place, row in open_table(path).rows:
        columns = next((pair for pair in COLUMNS if set(pair) <= set(row)), None)
        if columns is None:
            expected = ", ".join(" and ".join(pair) for pair in COLUMNS)
            raise BadTexts(f"{place} has no text with a score. Expected columns: {expected}.")
        words, score = text(place, row, columns[0]), number(place, row, columns[1])
        if score is not None:
            yield ScoredText(words, score, stem(path), runs(words), False)


def judged(path: Path) -> TextSet:
    """Texts that people labelled: the files that probes read, and Surge AI's, with text and is_toxic."""
    table = open_table(path)
    if "is_toxic" not in table.columns:
        return open_texts(str(path))
    names, texts = ("Not Toxic", "Toxic"), []
    for place, row in table.rows:
        if row["is_toxic"] not in names:
            raise BadTexts(f"{place}: is_toxic is {names[1]!r} or {names[0]!r}; got {row['is_toxic']!r:.40}.")
        texts.append(LabelledText(text(place, row, "text"), row["is_toxic"] == names[1]))
    return TextSet(stem(path), tuple(texts), rule="is_toxic")


def split(texts: Sequence[ScoredText], seed: int, held_out: float = 0.2, of_comments: float = 0.1) -> np.ndarray:
    """True where a text is held out; what shares a document, a prompt or eight words in a row goes to one side."""
    bundle = together(texts)
    shares = np.full(bundle.max() + 1, of_comments)
    shares[bundle[[one.is_prompt_set for one in texts]]] = held_out
    return (np.random.default_rng(seed).random(len(shares)) < shares)[bundle]


def together(texts: Sequence[ScoredText]) -> Int[np.ndarray, " text"]:
    """The same number, from 0 on without gaps, for texts that share a document, a prompt or eight words in a row."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers: dict[str, int] = {}
    pairs = [
        (row, numbers.setdefault(bond, len(numbers))) for row, one in enumerate(texts) for bond in sorted(one.bonds)
    ]
    rows, bonds = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    size = len(texts) + len(numbers)
    _, bundle = connected_components(coo_array((np.ones(len(rows)), (rows, bonds + len(texts))), shape=(size, size)))
    return bundle[: len(texts)]


def runs(words: str) -> frozenset[str]:
    """All stretches of so many words of a text; a shorter text is one stretch."""
    found = normalised(words).split()
    return frozenset(" ".join(found[at : at + RUN]) for at in range(max(1, len(found) - RUN + 1)))


def stem(path: Path) -> str:
    """A file's name without its endings."""
    return path.name.split(".")[0]
