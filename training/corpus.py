"""Documents from files in their real formats, one after the other; a damaged line stops the reader with file and line.

Formats are told by the file's name: JSON lines (`.jsonl`, `.ndjson`, `.json`), 4chan CSV crawls (`.csv`) and plain text
(`.txt`), each also as `.gz` or `.zst`. A fragment names other fields: `c4.jsonl.gz#prefix+gold_completion`.
"""

import contextlib
import csv
import gzip
import html
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

ZSTD_WINDOW = 2**31  # the published /pol/ archive was packed with a long window
csv.field_size_limit(2**24)

WORD_BREAK = re.compile(r"<wbr\s*/?>", re.IGNORECASE)
LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
QUOTE_LINK = re.compile(r"<a\b[^>]*>\s*&gt;&gt;.*?</a>", re.IGNORECASE | re.DOTALL)
TAG = re.compile(r"</?[a-zA-Z][^>]*>")
BARE_QUOTE = re.compile(r"^>>\d+\s*$", re.MULTILINE)


class CorpusError(ValueError):
    """A file that cannot be read to its end, with the line where it went wrong."""


@dataclass(frozen=True)
class Source:
    """One file of documents."""

    path: Path
    fields: tuple[str, ...] = ("text",)
    """Fields of a JSON object whose texts, one after the other, are the document."""

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Read `path` or `path#field+field`."""
        path, _, fields = text.partition("#")
        if not Path(path).is_file():
            raise CorpusError(f"There is no file {path}. Give files such as c4.jsonl.gz, or c4.jsonl.gz#body.")
        return cls(Path(path), tuple(fields.split("+")) if fields else ("text",))

    def __str__(self) -> str:
        return self.path.name if self.fields == ("text",) else f"{self.path.name}#{'+'.join(self.fields)}"


def documents(source: Source) -> Iterator[str]:
    """Every document of a file that has any text, in order."""
    kind = next((suffix for suffix in reversed(source.path.suffixes) if suffix not in {".gz", ".zst"}), "")
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_lines, ".csv": _forum_csv, ".txt": _plain}
    if kind not in readers:
        raise CorpusError(f"{source.path} has no known format. Known: {', '.join(readers)}, also with .gz or .zst.")
    with _open(source.path) as lines:
        for document in readers[kind](lines, source):
            if text := document.strip():
                yield text


def clean_post(comment: str) -> str:
    """The words of a 4chan comment, without its HTML.

    The order matters: `<wbr>` splits URLs and goes first; entities are undone last, because a literal `&lt;` undone
    earlier would be eaten as a tag.
    """
    text = LINE_BREAK.sub("\n", WORD_BREAK.sub("", comment))
    text = html.unescape(TAG.sub("", QUOTE_LINK.sub("", text)))
    return BARE_QUOTE.sub("", text).strip()


def thread(comments: Iterable[str]) -> str:
    """One document per thread: its posts in order, an empty line between them."""
    return "\n\n".join(filter(None, map(clean_post, comments)))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file that may be packed."""
    with contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(path.open("rb"))
        if path.suffix == ".gz":
            raw = stack.enter_context(gzip.GzipFile(fileobj=raw))
        elif path.suffix == ".zst":
            unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
            raw = stack.enter_context(unpacker.stream_reader(raw, read_across_frames=True))
        yield io.BufferedReader(raw)


def _numbered(lines: BinaryIO, path: Path) -> Iterator[tuple[int, str]]:
    """UTF-8 lines with their numbers; each is decoded alone, so that a bad byte is found on its own line."""
    number = 0
    while True:
        number += 1
        try:
            line = lines.readline().decode()
        except (OSError, EOFError, UnicodeDecodeError, zstandard.ZstdError) as error:
            raise CorpusError(
                f"{path}:{number} cannot be read: {error}. The file is damaged; fetch it again."
            ) from error
        if not line:
            return
        yield number, line


def _json_lines(lines: BinaryIO, source: Source) -> Iterator[str]:
    for number, line in _numbered(lines, source.path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if "posts" in row:
                yield thread(post.get("com", "") for post in row["posts"])
            else:
                yield "".join(_text(row[field]) for field in source.fields)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            wanted = " and ".join(f"'{field}'" for field in source.fields)
            raise CorpusError(
                f"{source.path}:{number} is not a JSON object with a text {wanted}, nor a thread with 'posts'. "
                f"Another field: {source.path.name}#field."
            ) from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no text")
    return value


def _forum_csv(lines: BinaryIO, source: Source) -> Iterator[str]:
    """Threads of a crawl with the columns `comment` (or `com`) and `thread`: rows that follow one another."""
    rows = csv.reader((line for _, line in _numbered(lines, source.path)), strict=True)
    header = next(_checked(rows, source.path, 0), [])
    column = next((name for name in ("comment", "com") if name in header), None)
    if column is None or "thread" not in header:
        raise CorpusError(
            f"{source.path}:1 should name the columns 'comment' (or 'com') and 'thread'; it has {header}."
        )
    body, key = header.index(column), header.index("thread")
    for _, posts in itertools.groupby(_checked(rows, source.path, len(header)), key=lambda row: row[key]):
        yield thread(row[body] for row in posts)


def _checked(rows: Any, path: Path, width: int) -> Iterator[list[str]]:
    """Rows with as many cells as the header; 0 takes any number."""
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise CorpusError(f"{path}:{rows.line_num} is damaged: {error}.") from error
        if width and len(row) != width:
            raise CorpusError(f"{path}:{rows.line_num} has {len(row)} cells; the header has {width}.")
        yield row


def _plain(lines: BinaryIO, source: Source) -> Iterator[str]:
    """Plain text: an empty line ends a document."""
    paragraph: list[str] = []
    for _, line in _numbered(lines, source.path):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "".join(paragraph)
            paragraph = []
    yield "".join(paragraph)
