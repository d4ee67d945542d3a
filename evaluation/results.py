"""Measurements on disk: JSON lines that are only ever added, a unit's all at once, and what was asked beside them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from lens import write_atomically

ROWS, ASKED, MADE_WITH = "rows.jsonl", "sweep.json", "made_with"
BEGINNING = b'{"kind": "'
"""Of every row."""
Row = dict[str, Any]


class OtherSweep(ValueError):
    """A folder that holds the results of another question; theirs and ours would be one table."""


class InUse(RuntimeError):
    """A folder that another process writes to."""


class Results:
    """One folder of measurements. Reading needs nothing; the first `describe` or `append` makes this the writer."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._file: IO[bytes] | None = None
        self._done: set[tuple[str, str]] = set()

    def rows(self, kind: str | None = None) -> Iterator[Row]:
        """All measurements in the order of their writing, or those of one kind."""
        path = self.folder / ROWS
        if not path.exists():
            return
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):  # still being written, or torn when its writer was killed
                    return
                row = _row(path, number, line)
                if kind is None or row["kind"] == kind:
                    yield row

    def done(self) -> set[tuple[str, str]]:
        """What is measured: units, each with its plan."""
        return {(row["unit"], row["plan"]) for row in self.rows()}

    @property
    def asked(self) -> Row:
        """What the sweep in this folder was asked, and what it was made with; empty where there was none."""
        path = self.folder / ASKED
        try:
            found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except ValueError as error:
            raise OtherSweep(f"{path} is no description of a sweep: {error}. Give another folder.") from error
        if not isinstance(found, dict):
            raise OtherSweep(f"{path} is no description of a sweep of ours. Give another folder.")
        return found

    def describe(self, asked: Mapping[str, Any], made_with: Row | None = None) -> None:
        """Say what will be measured here and with what, or see that it is what this folder holds.

        It may be made with another program or on another machine than before: each is kept once.
        """
        self._write()
        ours, theirs = json.loads(json.dumps(asked)), self.asked
        before = theirs.pop(MADE_WITH, [])
        makers = before if made_with is None or made_with in before else [*before, made_with]
        if theirs and theirs != ours:
            differing = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
            named = "; ".join(f"{name}: {_short(theirs, name)} there, {_short(ours, name)} asked" for name in differing)
            raise OtherSweep(
                f"{self.folder}/ holds the results of another sweep ({named}). Ask for the same, or give another "
                "folder with --out."
            )
        if not theirs or makers != before:
            described = {**ours, MADE_WITH: makers} if makers else ours
            write_atomically(self.folder / ASKED, json.dumps(described, indent=1) + "\n")

    def append(self, rows: Sequence[Row]) -> None:
        """Add a unit's rows and flush them to the disk; rows that are there already stay as they are."""
        file = self._write()
        new = [row for row in rows if (row["unit"], row["plan"]) not in self._done]
        file.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in new).encode())
        file.flush()
        os.fsync(file.fileno())
        self._done.update((row["unit"], row["plan"]) for row in new)

    def close(self) -> None:
        """Let another process write."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Results:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _write(self) -> IO[bytes]:
        """The file to add to, ours alone; what a killed writer left half written at its end is cut off."""
        if self._file is not None:
            return self._file
        self.folder.mkdir(parents=True, exist_ok=True)
        file = (self.folder / ROWS).open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise InUse(
                f"Another process writes to {self.folder}/. Wait for its end, or give another folder with --out."
            ) from error
        try:
            end = _whole_bytes(self.folder / ROWS)
            _check_torn(self.folder / ROWS, end)
            self._done = self.done()
        except ValueError:
            file.close()
            raise
        file.truncate(end)
        self._file = file
        return file


def _check_torn(path: Path, end: int) -> None:
    """Refuse a file whose last line nobody ended and that no writer of ours can have left so."""
    with path.open("rb") as file:
        file.seek(end)
        torn = file.read(len(BEGINNING))
    if not BEGINNING.startswith(torn):
        raise OtherSweep(f"{path} does not end with a measurement of ours. Give another folder with --out.")


def _whole_bytes(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - (1 << 16))
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def _row(path: Path, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
        row["kind"], row["unit"], row["plan"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}:{number} is no measurement of ours. Give another folder, or remove this line: the same command "
            "measures it again."
        ) from error
    return row


def _short(asked: Row, name: str) -> str:
    found = json.dumps(asked.get(name))
    return found if len(found) <= 80 else f"{found[:77]}…"
