"""Files of prompts: text lines, JSON lines or a table, read in one way wherever prompts come from."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from lens.line_reader import STDIN, BadTexts, Lines, Strict, kind_of, opened
from lens.table_reader import HALF, JSON_LINES, SEPARATORS, SPELLED, Placed, Row, described, table_of

NAMES = ("prompt", "text")
"""The columns, or keys of JSON, that may hold the prompt."""
QUARTERS = ("0.00-0.25", "0.25-0.50", "0.50-0.75", "0.75-1.00")
SEPARATOR = re.compile(r"(?:^|\\+n)\s*-(?:\s|$)")
"""Between the sentences of a ToxiGen prompt: a backslash, the letter n and a dash, as its files have them."""
PRINTED = re.compile(r"""\{\s*['"]text['"]\s*:""")
"""How RealToxicityPrompts' objects begin where they were saved in the cells of a table."""


@dataclass(frozen=True)
class Prompt:
    """One beginning."""

    id: str
    """12 hex digits of the text's SHA-256: the same text has the same id in every file."""
    text: str
    group: str | None = None
    """What an even sample draws from evenly: the quarter of its toxicity, ToxiGen's file, or the file's `group`."""
    toxicity: float | None = None
    """Score of the prompt itself, 0 to 1, where the file has one."""
    challenging: bool | None = None
    """Whether RealToxicityPrompts counts it among those that made every model tried there write toxic text."""
    demonstrations: tuple[str, ...] = ()
    """The sentences that the text lists, for prompts that are lists (ToxiGen); empty: the text is one whole."""


@dataclass(frozen=True)
class PromptFile:
    """What a file of prompts holds, in order."""

    prompts: tuple[Prompt, ...]
    n_stripped: int = 0
    """Prompts that had blanks at an end: these are left out, for a blank at the end is a token of its own."""
    has_continuations: bool = False
    """As RealToxicityPrompts has them."""


def remark(n_stripped: int) -> str:
    """What whoever gave a file should know of it, or ""."""
    if not n_stripped:
        return ""
    return (
        f"{n_stripped:,} prompt{'s' * (n_stripped > 1)} began or ended with blanks, which are left out: at the end a "
        "blank would be a token of its own, and what follows another one."
    )


def read_prompts(source: str | Path, group: str | None = None) -> PromptFile:
    """The prompts of a file, also packed, or of standard input ("-"); `group` is that of prompts that name none.

    JSON lines and tables have them under `prompt` or `text`, RealToxicityPrompts one level deeper; a file of another
    name is JSON lines or a table where its first line is one, else it has a prompt on each line.
    """
    with opened(source) as file:
        return prompts_in(file, Path(STDIN) if source == "-" else Path(source), group)


def prompts_in(file: BufferedIOBase, where: Path, group: str | None = None) -> PromptFile:
    """The same for an open file."""
    lines = Lines(file, where, Strict())
    kind = kind_of(where)
    if kind not in (*JSON_LINES, *SEPARATORS):
        kind = _kind_of_content(lines.peek())
    rows = list(_table_rows(lines, kind) if kind else _line_rows(lines))
    if not rows:
        raise lines.refused("holds no prompts. Write one on each line, or JSON lines with a 'prompt'.", 1)
    found = [_fields(place, row) for place, row in rows]
    return PromptFile(
        tuple(_prompt(place, row, fields, group) for (place, row), fields in zip(rows, found, strict=True)),
        sum(fields["text"] != fields["text"].strip() for fields in found),
        "continuation" in rows[0][1],
    )


def listed(demonstrations: Sequence[str]) -> str:
    """Sentences as a list whose next line is the model's to write: ToxiGen's way of asking."""
    return "".join(f"- {sentence}\n" for sentence in demonstrations) + "-"


def _kind_of_content(line: str) -> str:
    """JSON lines or a table, told by a first line that is an object or names a column of prompts; else ""."""
    if line.lstrip().startswith("{"):
        return JSON_LINES[0]
    cells = max((line.split(separator) for separator in SPELLED), key=len)
    return ".csv" if len(cells) > 1 and {*NAMES} & {cell.strip() for cell in cells} else ""


def _table_rows(lines: Lines, kind: str) -> Iterator[Placed]:
    table = table_of(lines, kind)
    if table.separator and not {*NAMES} & {*table.columns}:
        raise BadTexts(
            f"{table.place} has no column 'prompt' or 'text'. It has {described(table.columns, table.separator)}. "
            "Rename the one with the prompts."
        )
    return table.rows


def _line_rows(lines: Lines) -> Iterator[Placed]:
    for line in lines:
        if line.strip():
            if "\r" in line.strip():
                raise lines.refused("has a carriage return inside a line. End lines with a line feed.")
            yield f"{lines.where}:{lines.number}", {"text": line.rstrip("\r\n")}


def _fields(place: str, row: Row) -> dict[str, Any]:
    """The text of a prompt and what stands beside it: in the row, or in an object inside as in RealToxicityPrompts."""
    inner = next((row[name] for name in NAMES if name in row), None)
    fields = dict(inner) if isinstance(inner, Mapping) else {**row, "text": inner}
    text = fields.get("text")
    if not isinstance(text, str) or not text.strip():
        raise BadTexts(f"{place} has no prompt. A row has a 'prompt' or a 'text', as in RealToxicityPrompts.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BadTexts(f"{place} {HALF}. Remove it.")
    if PRINTED.match(text):
        raise BadTexts(f"{place} has an object printed where its prompt should be. Give the JSON lines themselves.")
    return fields


def _prompt(place: str, row: Row, fields: Mapping[str, Any], group: str | None) -> Prompt:
    toxicity = _score(fields.get("toxicity"), place)
    text = fields["text"].strip()
    sentences = tuple(filter(None, map(str.strip, SEPARATOR.split(text))))
    is_list = text.startswith("- ") and SEPARATOR.search(text, 1) is not None
    text = listed(sentences) if is_list else text
    own = row.get("group") or group or (None if toxicity is None else QUARTERS[min(3, int(4 * toxicity))])
    return Prompt(
        hashlib.sha256(text.encode()).hexdigest()[:12],
        text,
        own and str(own),
        toxicity,
        {"true": True, "false": False}.get(str(row.get("challenging")).lower()),
        sentences if is_list else (),
    )


def _score(found: Any, place: str) -> float | None:
    """A number from 0 to 1, or none."""
    if found in (None, ""):
        return None
    try:
        score = float(found)
    except (TypeError, ValueError, OverflowError):
        score = math.nan
    if not 0 <= score <= 1:
        raise BadTexts(f"{place}: toxicity is a number from 0 to 1, or null; got {found!r:.40}.")
    return score
