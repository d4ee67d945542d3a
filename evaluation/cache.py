"""Scores that were paid for once: an SQLite file that many processes read and write at the same time."""

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

WAIT = 60  # seconds that one process waits for another's writing
PER_QUERY = 500  # SQLite takes at least 999 values in one statement
TABLE = """
CREATE TABLE IF NOT EXISTS scores (
    scorer TEXT NOT NULL,
    version TEXT NOT NULL,
    text_sha TEXT NOT NULL,
    score REAL NOT NULL CHECK (score BETWEEN 0 AND 1),
    PRIMARY KEY (scorer, version, text_sha)
) WITHOUT ROWID
"""


class BrokenCache(ValueError):
    """A file that holds no scores of ours, or cannot be read."""


def text_sha(text: str) -> str:
    """SHA-256 of the text's UTF-8 bytes: what a score is filed under."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def default_cache() -> Path:
    """Where scores are kept unless told otherwise: hormesis/scores.sqlite in the user's cache folder (XDG)."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:  # no HOME, and a user without a name
        raise BrokenCache(
            "There is no home folder to keep scores in. Name a file (--cache FILE), or keep none (--cache none)."
        ) from error
    return folder / "hormesis" / "scores.sqlite"


class ScoreCache:
    """The scores of one version of one scorer; what is missing is never stored, so it is asked for again."""

    def __init__(self, path: Path, scorer: str, version: str) -> None:
        self.path, self.key = Path(path), (scorer, version)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BrokenCache(
                f"Scores cannot be kept in {self.path}: {error.strerror}. Name another file (--cache FILE), or keep "
                "none (--cache none)."
            ) from error
        with self._open() as database:
            database.execute(TABLE)

    def known(self, shas: Sequence[str]) -> dict[str, float]:
        """Those scores that are there, by the text's SHA-256."""
        found: dict[str, float] = {}
        with self._open() as database:
            for start in range(0, len(shas), PER_QUERY):
                some = shas[start : start + PER_QUERY]
                these = f"scorer = ? AND version = ? AND text_sha IN ({', '.join('?' * len(some))})"
                rows = database.execute(f"SELECT text_sha, score FROM scores WHERE {these}", (*self.key, *some))
                found.update(rows)
        return found

    def keep(self, scores: Mapping[str, float]) -> None:
        """Store scores by the texts' SHA-256, all or none."""
        rows = [(*self.key, sha, score) for sha, score in scores.items()]
        with self._open() as database:
            database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for each use, so that threads and forked processes never share one."""
        try:
            database = sqlite3.connect(self.path, timeout=WAIT)
            try:
                _write_ahead(database)
                with database:
                    yield database
            finally:
                database.close()
        except sqlite3.DatabaseError as error:
            raise BrokenCache(
                f"{self.path} cannot be used as a cache of scores: {error}. "
                "Move the file away, or name another: --cache FILE (none: keep no scores)."
            ) from error


def _write_ahead(database: sqlite3.Connection) -> None:
    """Let readers and a writer not wait for each other. A new file is changed to that once, and when two processes do
    it at the same moment SQLite does not wait by itself."""
    give_up = time.monotonic() + WAIT
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
