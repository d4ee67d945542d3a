"""Documents from files in their real formats, one after the other; a damaged line stops the reader with file and line.

Formats are told by the file's name: JSON lines (`.jsonl`, `.ndjson`, `.json`: C4, Dolma, archived 4chan threads), CSV
and TSV (crawls of 4chan, or texts in a column), plain text (`.txt`, an empty line between documents), each also as
`.gz` or `.zst`; JSON lines also inside a `.tar` of either kind. `hub:NAME:CONFIG:SPLIT` streams a data set. A fragment
names other fields: `c4.jsonl.gz#prefix+gold_completion`, `prompts.jsonl#prompt.text`, `tweets.csv#tweet`.
"""

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from lens.archive import members
from lens.line_reader import Lines, kind_of, opened
from lens.table_reader import SEPARATORS, Cells, csv_cells, described, json_reason, json_rows
from training import forum
from training.document import CorpusError, Damage, Document, Ledger, Reading
from training.hub import PREFIX, Hub

__all__ = ["CorpusError", "Document", "Ledger", "Reading", "Source", "documents", "sources"]

TEXT = ("text",)
HELD_OUT = "c4-validation."  # C4's own held-out shards lie in the folder of its training shards

THREADS = Reading()

Entry = Document | list[Document]
"""A text, or the posts of a thread."""


@dataclass(frozen=True)
class Source:
    """One file of documents, or a data set that is streamed."""

    path: Path
    """Of a streamed data set its name."""
    fields: tuple[str, ...] = TEXT
    """Fields or columns whose texts, one after the other, are the document; `outer.inner` reaches into an object."""
    hub: Hub | None = None

    @classmethod
    def parse(cls, text: str, fields: tuple[str, ...] = TEXT) -> "Source":
        """Read `path`, `path#field+field` or `hub:NAME:CONFIG:SPLIT#field`; `fields` where none are named."""
        name, _, named = text.partition("#")
        fields = tuple(named.split("+")) if named else fields
        if name.startswith(PREFIX):
            hub = Hub.parse(name)
            return cls(Path(hub.name), fields, hub)
        path = Path(name)
        if not path.is_file():
            raise CorpusError(
                f"There is no file {path}.{_near(path)} Give files such as c4.jsonl.gz, or c4.jsonl#body."
            )
        if kind_of(path) not in READERS:
            raise CorpusError(f"{path} has no known format. Known: {', '.join(READERS)}, also with .gz or .zst.")
        if named and kind_of(path) == ".txt":
            raise CorpusError(f"{path} is plain text and has no field {named}.")
        return cls(path, fields)

    def digest(self) -> str:
        """SHA-256 of the file's bytes as they are; of a streamed data set, of its files' names and versions."""
        if self.hub:
            return self.hub.digest()
        state = self.path.stat()
        return _sha256(self.path, state.st_size, state.st_mtime_ns)

    def __str__(self) -> str:
        name = str(self.hub) if self.hub else self.path.name
        return name if self.fields == TEXT else f"{name}#{'+'.join(self.fields)}"


@cache
def _sha256(path: Path, n_bytes: int, modified_ns: int) -> str:
    """A large file is read once for several questions, unless it changes between them."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sources(texts: Sequence[str], text_field: str = "text") -> tuple[Source, ...]:
    """Files, data sets, and folders for all their files of known formats but C4's validation shards."""
    fields = tuple(text_field.split("+"))
    found = [source for text in texts for source in _sources(text, fields)]
    if twice := [str(source) for source, n in Counter(found).items() if n > 1]:
        raise CorpusError(f"{', '.join(twice)}: given twice, so its text would count twice. Name it once.")
    return tuple(found)


def documents(source: Source, reading: Reading = THREADS, ledger: Ledger | None = None) -> Iterator[Document]:
    """Every document of a source that has any text, in order; what has none is counted in the ledger."""
    counts = Ledger() if ledger is None else ledger
    for entry in _entries(source, Damage(reading.skip_damaged, counts)):
        if isinstance(entry, list):
            yield from forum.as_documents(entry, reading, counts)
        elif reading.forum:
            yield from forum.as_documents([entry], reading, counts)
        else:
            counts.read += 1
            counts.without_text += not entry.text
            if entry.text:
                yield entry


def _sources(text: str, fields: tuple[str, ...]) -> list[Source]:
    name, _, named = text.partition("#")
    if not Path(name).is_dir():
        return [Source.parse(text, fields)]
    fields = tuple(named.split("+")) if named else fields
    files = sorted(path for path in Path(name).iterdir() if path.is_file() and kind_of(path) in READERS)
    found = [Source(path, fields) for path in files if not path.name.startswith(HELD_OUT)]
    if not found:
        raise CorpusError(f"The folder {name} holds no file of a known format: {', '.join(READERS)}, also packed.")
    return found


def _near(path: Path) -> str:
    names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, names, n=1)
    return f" Did you mean {path.parent / near[0]}?" if near else ""


def _entries(source: Source, damage: Damage) -> Iterator[Entry]:
    if source.hub:
        for number, row in enumerate(source.hub.rows(), start=1):
            try:
                yield _entry(row, source)
            except (ValueError, TypeError, LookupError) as error:
                damage.report(Path(str(source.hub)), number, json_reason(error))
        return
    with opened(source.path, CorpusError) as file:
        if kind_of(source.path) != ".tar":
            yield from READERS[kind_of(source.path)](Lines(file, source.path, damage), source)
            return
        n_files = 0
        for where, member in members(file, source.path, CorpusError):
            if READERS.get(kind_of(where)) is _json_lines:
                n_files += 1
                yield from _json_lines(Lines(member, where, damage), source)
        if not n_files:
            raise CorpusError(f"{source.path}:1 holds no file of JSON lines, such as threads.ndjson.")


def _json_lines(lines: Lines, source: Source) -> Iterator[Entry]:
    for row in json_rows(lines):
        try:
            entry = _entry(row, source)
        except (ValueError, TypeError, LookupError) as error:
            lines.damaged(json_reason(error))
        else:
            yield entry


def _entry(row: Mapping[str, Any], source: Source) -> Entry:
    """A row that has the fields asked for is a text; else it may be a thread with 'posts'."""
    try:
        text = "".join(_text(row, field) for field in source.fields).strip()
    except KeyError as missing:
        if "posts" not in row:
            raise LookupError(
                f"has no field {missing} and is no thread with 'posts'; other fields: {source.path.name}#field"
            ) from missing
        return _sound(forum.posts_of_thread(row))
    metadata = row.get("metadata")
    if source.fields == TEXT and isinstance(metadata, Mapping) and "original_ids" in metadata:  # AI2's 4chan threads
        return _sound(forum.posts_of_plain_thread(text))
    return _sound([Document(text, forum.toxicity_of(row))])[0]


def _text(row: Mapping[str, Any], field: str) -> str:
    """A field's text, "" for null; `outer.inner` reaches into an object."""
    outer, dot, inner = field.partition(".")
    if field not in row and dot and isinstance(row.get(outer), Mapping):
        return _text(row[outer], inner)
    value = row[field]
    if not isinstance(value, str | None):
        raise TypeError(f"has {type(value).__name__} in the field {field!r}, where text is expected")
    return value or ""


def _sound(documents: list[Document]) -> list[Document]:
    """The same documents, if each can be written down."""
    for document in documents:
        document.text.encode()
    return documents


def _csv(lines: Lines, source: Source) -> Iterator[Entry]:
    """Texts of the columns asked for; else threads of a crawl: `comment` or `com`, rows of one `thread` in a row."""
    begins, header, separator, rows = csv_cells(lines, SEPARATORS[kind_of(source.path)])
    if not header:
        return
    body = next((name for name in ("comment", "com") if name in header), "")
    if set(source.fields) <= set(header):
        columns = [header.index(field) for field in source.fields]
        for _, row in rows:
            yield Document("".join(row[column] for column in columns).strip())
    elif body and "thread" in header:
        for _, group in itertools.groupby(rows, key=lambda numbered: numbered[1][header.index("thread")]):
            yield list(_posts(group, header.index(body), lines))
    else:
        raise CorpusError(
            f"{lines.where}:{begins} has no column {' nor '.join(source.fields)} and is no crawl with 'thread' and "
            f"'comment'. It has {described(header, separator)}. Name one: {source.path.name}#column."
        )


def _posts(rows: Iterator[Cells], column: int, lines: Lines) -> Iterator[Document]:
    for begins, row in rows:
        try:
            post = Document(forum.clean_post(row[column]))
        except ValueError as error:  # a character reference of thousands of digits
            lines.damaged(json_reason(error), begins)
        else:
            yield post


def _plain(lines: Lines, source: Source) -> Iterator[Entry]:
    """An empty line ends a document."""
    for filled, group in itertools.groupby(lines, key=lambda line: bool(line.strip())):
        if filled:
            yield Document("".join(group).strip())


Reader = Callable[[Lines, Source], Iterator[Entry]]
READERS: dict[str, Reader] = {".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_lines}
READERS |= {".csv": _csv, ".tsv": _csv, ".txt": _plain, ".tar": _json_lines}
