"""Text that no checkpoint was trained on, for measuring what steering costs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lens.line_reader import BadTexts, Lines, Strict, kind_of, opened
from lens.table_reader import JSON_LINES, json_rows, text
from steering.cost import plain_text

FIELDS = (("text",), ("prefix", "gold_completion"))
"""Where a row has its text: in JSON lines of C4 and OpenWebText, and in C4 cut in two for generation."""


def held_out(spec: str) -> str:
    """Steering's own prose ("plain"), or a file's text: .txt as it is, so WikiText-2 with its marks, or JSON lines.

    JSON lines (.jsonl, or .json as C4's shards are called) have a `text`, or a `prefix` and a `gold_completion`; an
    empty line comes between two of them. Any file may be packed (.gz, .zst). `FILE:200kB` is its first 200,000 bytes,
    up to the end of a word.
    """
    if spec == "plain":
        return plain_text()
    file, _, size = spec.rpartition(":") if re.search(r":\d+kB$", spec) else (spec, "", "")
    path, most = Path(file), 1000 * int(size.removesuffix("kB")) if size else None
    if not path.is_file():
        raise BadTexts(
            f"There is no text {file}. Give plain, or a file such as wikitext2_test.txt.gz or c4.jsonl:200kB."
        )
    kept, n_bytes = [], 0
    for document in _documents(path):
        kept.append(document)
        n_bytes += len(document.encode()) + 2
        if most is not None and n_bytes > most:
            break
    whole = "\n\n".join(kept)
    if not whole.strip():
        raise BadTexts(f"{path} holds no text.")
    return whole if most is None else beginning(whole, most)


def _documents(path: Path) -> Iterator[str]:
    """The texts of a file, one after the other; a damaged line stops the reading."""
    kind = kind_of(path)
    if kind not in (".txt", *JSON_LINES):
        raise BadTexts(f"{path} is no text that can be read here: .txt, .jsonl or .json, each also as .gz or .zst.")
    with opened(path) as file:
        lines = Lines(file, path, Strict())
        if kind == ".txt":
            yield "".join(lines)
            return
        for row in json_rows(lines):
            place = f"{path}:{lines.number}"
            names = next((names for names in FIELDS if names[0] in row), None)
            if names is None:
                raise BadTexts(f"{place} has no 'text', and no 'prefix' with a 'gold_completion'.")
            yield "".join(text(place, row, name) for name in names)


def beginning(text: str, n_bytes: int) -> str:
    """At most so many bytes of a text, up to the end of a word."""
    cut = text.encode()[:n_bytes].decode(errors="ignore")
    whole = cut == text or text[len(cut)].isspace()
    return cut if whole else cut[: max((space.start() for space in re.finditer(r"\s", cut)), default=len(cut))]
