"""Text that no checkpoint was trained on, for measuring what steering costs."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from steering.cost import plain_text

FIELDS = (("text",), ("prefix", "gold_completion"))
"""Where a row has its text: in JSON lines of C4 and OpenWebText, and in C4 cut in two for generation."""


class BadText(ValueError):
    """A text to measure on that cannot be used as it is."""


def held_out(spec: str) -> str:
    """Steering's own prose ("plain"), or a file's text: .txt as it is, so WikiText-2 with its marks, or JSON lines.

    JSON lines (.jsonl, or .json as C4's shards are called) have a `text`, or a `prefix` and a `gold_completion`; an
    empty line comes between two of them. Any file may be packed (.gz). `FILE:200kB` is its first 200,000 bytes, up to
    the end of a word.
    """
    if spec == "plain":
        return plain_text()
    file, _, size = spec.rpartition(":") if re.search(r":\d+kB$", spec) else (spec, "", "")
    path, most = Path(file), 1000 * int(size.removesuffix("kB")) if size else None
    if not path.is_file():
        raise BadText(
            f"There is no text {file}. Give plain, or a file such as wikitext2_test.txt.gz or c4.jsonl:200kB."
        )
    kept, n_bytes = [], 0
    for document in _documents(path):
        kept.append(document)
        n_bytes += len(document.encode()) + 2
        if most is not None and n_bytes > most:
            break
    text = "\n\n".join(kept)
    if not text.strip():
        raise BadText(f"{path} holds no text.")
    return text if most is None else beginning(text, most)


def _documents(path: Path) -> Iterator[str]:
    """The texts of a file, one after the other; a damaged line stops the reading."""
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind not in (".txt", ".jsonl", ".json"):
        raise BadText(f"{path} is no text that can be read here: .txt, .jsonl or .json, each also as .gz.")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", newline="") as lines:
            if kind == ".txt":
                yield lines.read()
            else:
                yield from (_text(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip())
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadText(f"{path} cannot be read to its end: {error}. Copy it again.") from error


def _text(line: str, where: str) -> str:
    try:
        row = json.loads(line)
        text = next("".join(row[name] for name in names) for names in FIELDS if names[0] in row)
        text.encode()
    except UnicodeEncodeError as error:
        raise BadText(f"{where} holds half a character. Remove it.") from error
    except (ValueError, TypeError, KeyError, StopIteration) as error:
        raise BadText(f"{where} is no JSON object with a 'text', or a 'prefix' and a 'gold_completion'.") from error
    return text


def beginning(text: str, n_bytes: int) -> str:
    """At most so many bytes of a text, up to the end of a word."""
    cut = text.encode()[:n_bytes].decode(errors="ignore")
    whole = cut == text or text[len(cut)].isspace()
    return cut if whole else cut[: max((space.start() for space in re.finditer(r"\s", cut)), default=len(cut))]
