"""Texts and numbers of a JSONL or CSV file, or of standard input, one after the other."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from probes.texts import ENCODING, ERRORS, BadTexts, Row, numbered, rows

T = TypeVar("T")
Placed = tuple[str, Row]
"""A row, behind the place it is at."""


def read(source: str) -> Iterator[Placed]:
    """Each row with the place it is at: of a .jsonl or .csv file (also .gz), or JSON lines of standard input ("-")."""
    if source == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):  # its own encoding is that of the locale
            sys.stdin.reconfigure(encoding=ENCODING, errors=ERRORS)
        yield from (
            (f"standard input:{number}", row) for number, row in numbered(Path("standard input"), ".jsonl", sys.stdin)
        )
    elif not Path(source).is_file():
        raise BadTexts(f"There is no file {source}. Give a .jsonl or .csv file (also .gz), or '-' for standard input.")
    else:
        yield from ((f"{source}:{number}", row) for number, row in rows(Path(source)))


def text(place: str, row: Row, field: str) -> str:
    """The text in a row; a row without one stops the reading."""
    found = value(place, row, field)
    if not isinstance(found, str):
        raise BadTexts(f"{place}: {field!r} is not a text but {found!r:.40}. Name another field, or mend this row.")
    return found


def number(place: str, row: Row, field: str) -> float | None:
    """A score from 0 to 1 in a row; None where it is null or empty."""
    found = value(place, row, field)
    if found is None or found == "":
        return None
    try:
        score = float(found)
    except (TypeError, ValueError):
        score = -1.0
    if not 0 <= score <= 1:
        raise BadTexts(f"{place}: {field!r} is no score from 0 to 1 but {found!r:.40}. Name another column.")
    return score


def value(place: str, row: Row, field: str) -> Any:
    """What a row holds under a name; dots lead inside objects, as in prompt.text."""
    if field in row:
        return row[field]
    inside: Any = row
    for name in field.split("."):
        if not isinstance(inside, dict) or name not in inside:
            near = get_close_matches(field, names := paths(row), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise BadTexts(f"{place} has no field {field!r}.{hint} It has: {', '.join(names)}.")
        inside = inside[name]
    return inside


def paths(row: Row) -> list[str]:
    """The names of all fields, those inside objects with a dot."""
    inner = {name: paths(found) if isinstance(found, dict) else [] for name, found in row.items()}
    return [path for name, found in inner.items() for path in ([f"{name}.{one}" for one in found] or [str(name)])]


def batches(items: Iterator[T], size: int) -> Iterator[Sequence[T]]:
    """So many at a time, so that a file of any length is read in little memory."""
    while batch := list(islice(items, size)):
        yield batch
