"""A scorer that needs no model: the share of vowels among a text's letters, nothing for a text without letters."""

from __future__ import annotations

from collections.abc import Sequence


class Letters:
    name, version = "letters", "1"

    def __call__(self, texts: Sequence[str]) -> list[float | None]:
        letters = [[c for c in text.lower() if c.isalpha()] for text in texts]
        return [sum(c in "aeiou" for c in one) / len(one) if one else None for one in letters]


def letters(spec: str) -> Letters:
    """What opens it, whatever was asked for."""
    return Letters()
