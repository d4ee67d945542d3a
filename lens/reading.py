"""Small files of a folder that may come from a stranger: plain files only, of bounded size, JSON of bounded depth."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

SMALL_FILE = 16_000_000
"""Bytes of a config, a card or an index at most; the largest we know has 200,000."""


class BrokenCheckpoint(ValueError):
    """A folder that cannot be opened; the sentence names the file and what mends it."""


def plain_status(path: Path) -> os.stat_result:
    """The status of a plain file, or of the plain file that a link leads to (the hub's cache is made of links).

    A pipe or a device is refused without opening it: reading one may never end.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise BrokenCheckpoint(f"{path} is a link that leads nowhere. Put the file itself there.") from None
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise BrokenCheckpoint(f"{path} is no plain file but {_kind(status.st_mode)}. Put the file itself there.")
    return status


def is_there(path: Path) -> bool:
    """Whether the folder has an entry of this name; a link counts, wherever it leads."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path, error) from error
    return True


def read_plain(path: Path, most: int = SMALL_FILE) -> bytes:
    """The content of a plain file of at most so many bytes."""
    size = plain_status(path).st_size
    if size > most:
        raise BrokenCheckpoint(f"{path} has {size:,} bytes; at most {most:,} are expected. Is it another file?")
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe may have taken its place
            return file.read(size)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_json_object(path: Path, what: str, most: int = SMALL_FILE) -> dict[str, Any]:
    """The JSON object in a file; `what` says what the file is for, should it be missing."""
    try:
        content = parse_json(read_plain(path, most))
    except FileNotFoundError:
        raise BrokenCheckpoint(f"{path} is missing: {what}. Is {path.parent}/ a checkpoint's folder?") from None
    except BrokenCheckpoint:
        raise
    except ValueError as error:
        raise BrokenCheckpoint(f"{path} is not JSON ({error}). Export the checkpoint again.") from error
    if not isinstance(content, dict):
        raise BrokenCheckpoint(f"{path} should hold a JSON object. Export the checkpoint again.")
    return content


def parse_json(content: bytes) -> Any:
    """What a JSON text says; a ValueError where it is none, is nested too deeply or has a key twice."""
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def shorten(value: object) -> str:
    """A value as a sentence can show it."""
    return ascii(value)[:60]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # readers differ in which of two they take
        raise ValueError("a name stands twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _unreadable(path: Path, error: OSError) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f"{path} cannot be read ({error.strerror}). Give this user the right to read it, or copy it again."
    )


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
