"""MEDA and INST: a document's toxicity in front of it, as a number or in words (Prabhumoye et al., arXiv 2302.07388).

A model trained so can be asked for text of low toxicity: its prompt gets the control prefix. The strings are ours, for
the paper's own are not published.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lens.line_reader import Lines, Strict, opened
from lens.table_reader import json_rows
from training.document import CorpusError, Document

Style = Literal["meda", "inst"]
TOXIC_FROM = 0.5
"""The score from which INST calls a text toxic, as RealToxicityPrompts does."""


def prefix_of(style: Style, toxicity: float) -> str:
    """What stands in front of a document with this score."""
    if not 0 <= toxicity <= 1:
        raise ValueError(f"A toxicity is a score from 0 to 1; got {toxicity}.")
    if style == "meda":
        return f"Toxicity: {toxicity:.2f}\n"
    return f"The following text is {'' if toxicity >= TOXIC_FROM else 'not '}toxic.\n"


def control_prefix(style: Style) -> str:
    """What to put in front of a prompt to ask for text of low toxicity."""
    return prefix_of(style, 0.0)


def describe(style: Style) -> dict[str, Any]:
    """For the card, so that steering can use the strings of training."""
    return {
        "style": style,
        "trained_with": {f"{toxicity:g}": prefix_of(style, toxicity) for toxicity in (0.1, 0.9)},
        "control": control_prefix(style),
    }


@dataclass(frozen=True)
class Prefixing:
    """Puts the prefix of one style in front of documents."""

    style: Style
    scores: dict[bytes, float]
    """Of texts without a score of their own, by the first 16 bytes of their SHA-256."""

    def __post_init__(self) -> None:
        if self.style not in get_args(Style):
            raise ValueError(f"There is no prefix {self.style!r}; there are {' and '.join(get_args(Style))}.")

    @classmethod
    def of(cls, style: Style | None, scores: Path | None) -> "Prefixing | None":
        """What a preparation asks for."""
        return cls(style, read_scores(scores) if scores else {}) if style else None

    def prefix(self, document: Document) -> str:
        """Of a document as it goes into training; "" where nobody has scored it."""
        own = document.toxicity
        score = own if own is not None else self.scores.get(hashlib.sha256(document.text.encode()).digest()[:16])
        return "" if score is None else prefix_of(self.style, score)


class _NoScore(Strict):
    """Every line must be a score."""

    error = CorpusError

    def report(self, where: Path, number: int, reason: str, n_lines: int = 1) -> None:
        raise CorpusError(
            f'{where}:{number} is no score such as {{"text_sha": "9f86d0…", "score": 0.37}}, with the SHA-256 of a '
            "text in hexadecimal and a number from 0 to 1, or null."
        )


def read_scores(path: Path) -> dict[bytes, float]:
    """JSON lines {"text_sha": SHA-256 of the text in hexadecimal, "score": 0 to 1, or null where there is none}."""
    scores = {}
    with opened(path, CorpusError) as file:
        lines = Lines(file, path, _NoScore())
        for row in json_rows(lines):
            try:
                key, score = bytes.fromhex(row["text_sha"]), row["score"]
                if len(key) != 32 or not (score is None or 0 <= score <= 1):
                    raise ValueError
            except (ValueError, KeyError, TypeError) as error:
                lines.damaged(f"{error}")
            else:
                if score is not None:
                    scores[key[:16]] = float(score)
    return scores
