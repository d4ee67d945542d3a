"""Rows of JSON lines, CSV and TSV, each with its file and line; what is damaged or said twice is refused there."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from lens.line_reader import STDIN, BadTexts, Lines, Strict, kind_of, opened

JSON_LINES = (".jsonl", ".ndjson", ".json")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
SPELLED = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
"""What may separate columns: the character that the file's ending promises, or another that the header has instead."""
HALF = "holds half a character (a lone surrogate)"
csv.field_size_limit(2**24)  # of one cell; Python's own limit of 131,072 cuts real texts off

Row = Mapping[str, Any]
Placed = tuple[str, Row]
"""A row, behind the place it is at, such as "texts.csv:3"."""
Cells = tuple[int, list[str]]
"""The cells of a row, behind the line on which it begins."""


@dataclass(frozen=True)
class Table:
    """The rows of a file, read one after the other, and what is known before the first of them is."""

    place: str
    """Of the header, or of the first row of JSON lines."""
    columns: tuple[str, ...]
    separator: str | None
    """Between columns; None for JSON lines."""
    rows: Iterator[Placed]

    def require(self, *names: str) -> None:
        """Refuse a table that lacks a column, and say which columns it has."""
        lacking = " and no column ".join(repr(name) for name in names if name not in self.columns)
        if lacking:
            expected = " and ".join(names)
            raise BadTexts(
                f"{self.place} has no column {lacking}. It has {described(self.columns, self.separator)}. Rename its "
                f"columns to {expected}{', with commas or tabs between them' if self.separator else ''}."
            )


def open_table(source: str | Path) -> Table:
    """The rows of a .jsonl, .csv or .tsv file, also packed, or JSON lines of standard input ("-")."""
    path = Path(STDIN) if source == "-" else Path(source)
    if source != "-" and not path.is_file():
        raise BadTexts(f"There is no file {path}. Give a .jsonl, .csv or .tsv file (.gz or .zst after any is fine).")
    kind = JSON_LINES[0] if source == "-" else kind_of(path)
    if kind not in (*JSON_LINES, *SEPARATORS):
        raise BadTexts(f"{path} is neither .jsonl nor .csv nor .tsv (.gz or .zst after any is fine).")
    with ExitStack() as stack:
        found = table_of(Lines(stack.enter_context(opened(source)), path, Strict()), kind)
        return replace(found, rows=_until_closed(found.rows, stack.pop_all()))


def table_of(lines: Lines, kind: str) -> Table:
    """The rows of an open file."""
    return _json_table(lines) if kind in JSON_LINES else _csv_table(lines, SEPARATORS[kind])


def _until_closed(rows: Iterator[Placed], stack: ExitStack) -> Iterator[Placed]:
    with stack:
        yield from rows


def _json_table(lines: Lines) -> Table:
    placed = ((f"{lines.where}:{lines.number}", row) for row in json_rows(lines))
    first = next(placed, None)
    if first is None:
        raise lines.refused("holds no rows.", 1)
    return Table(first[0], tuple(first[1]), None, chain([first], placed))


def _csv_table(lines: Lines, separator: str) -> Table:
    begins, header, separator, cells = csv_cells(lines, separator)
    first = next(cells, None)
    if first is None:
        raise lines.refused("holds no rows.", 1)
    placed = (
        (f"{lines.where}:{number}", {name: cell for name, cell in zip(header, row, strict=True) if name})
        for number, row in chain([first], cells)
    )
    return Table(f"{lines.where}:{begins}", tuple(filter(None, header)), separator, placed)


def json_rows(lines: Lines) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines; a blank line is none, and one that is no object is reported."""
    for line in lines:
        if line.strip():
            try:
                row = _DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                lines.damaged(json_reason(error))
            else:
                if isinstance(row, dict):
                    yield row
                else:
                    lines.damaged("is no JSON object; expected one on each line")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which Python's own reader would let the last of two equal names win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"names {_twice([name for name, _ in pairs])} twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def json_reason(error: Exception) -> str:
    """What is wrong with a line, without its words."""
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
    if isinstance(error, UnicodeEncodeError):
        return HALF
    return "is not JSON that can be read: too many levels" if isinstance(error, RecursionError) else f"{error.args[0]}"


def csv_cells(lines: Lines, separator: str) -> tuple[int, list[str], str, Iterator[Cells]]:
    """The header with the line where it begins, what separates its columns, and the rows of as many cells.

    Names in the header are stripped of blanks; what stands behind the last of them must be empty in every row.
    """
    if separator not in (first := lines.peek()):
        separator = next((other for other in SPELLED if other in first), separator)
    rows = _csv_rows(lines, separator)
    begins, header = next(rows, (1, []))
    header = [name.strip() for name in header]
    if twice := _twice([name.casefold() for name in header if name]):
        raise lines.refused(f"names the column {twice} twice. Rename or remove one.", begins)
    return begins, header, separator, _whole(rows, header, lines)


def _whole(rows: Iterator[Cells], header: list[str], lines: Lines) -> Iterator[Cells]:
    """The rows that have a cell for each column, and none without one."""
    width, named = len(header), max((place for place, name in enumerate(header, 1) if name), default=0)
    for begins, row in rows:
        if len(row) != width:
            more = "" if len(row) < width else "; a cell with the separator in it needs quotation marks"
            lines.damaged(f"has {len(row)} cell{'s' * (len(row) != 1)}, the header has {width}{more}", begins)
        elif named < width and any(row[named:]):
            lines.damaged("has a cell in a column without a name", begins)
        else:
            yield begins, row


def _csv_rows(lines: Lines, separator: str) -> Iterator[Cells]:
    """Every row that is not blank; one that cannot be read is reported."""
    reader = csv.reader(iter(lines), strict=True, delimiter=separator)
    while True:
        begins = lines.number + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            returns = "new-line character" in f"{error}"
            lines.damaged(f"is no CSV: {'it has a carriage return inside a line' if returns else error}", begins)
        else:
            if row:
                yield begins, row


def described(columns: tuple[str, ...] | list[str], separator: str | None) -> str:
    """The columns that were found, and what separates them."""
    names = ", ".join(repr(name[:40]) for name in columns[:12]) or "none"
    word = "column" if len(columns) == 1 else "columns"
    return f"the {word} {names}{f', separated by {SPELLED[separator]}' if separator and len(columns) > 1 else ''}"


def _twice(names: list[str]) -> str:
    """The first name that is there twice, or ""."""
    return next((repr(name[:40]) for name, n in Counter(names).items() if n > 1), "")


def text(place: str, row: Row, field: str) -> str:
    """The text in a row; a row without one stops the reading."""
    found = value(place, row, field)
    if not isinstance(found, str):
        raise BadTexts(f"{place}: {field!r} is not a text but {found!r:.40}. Name another field, or mend this row.")
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise BadTexts(f"{place} {HALF} in {field!r}. Remove it.") from error
    return found


def number(place: str, row: Row, field: str) -> float | None:
    """A score from 0 to 1 in a row; None where it is null or empty."""
    found = value(place, row, field)
    if found is None or found == "":
        return None
    try:
        score = float(found)
    except (TypeError, ValueError, OverflowError):
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
