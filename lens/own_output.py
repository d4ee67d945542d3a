"""Nothing is replaced unasked: what a command finds in its way is its own earlier output, or it stays."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

WAY_OUT = "Give another --out, or --overwrite to replace it."


class InTheWay(ValueError):
    """A file or folder that is there already and that the command did not write."""


def check_own(
    paths: Path | Iterable[Path], is_own: Callable[[Path], bool], overwrite: bool, way_out: str = WAY_OUT
) -> None:
    """Refuse to replace what is there, unless it says of itself that the same command wrote it, or it is asked for."""
    for path in [paths] if isinstance(paths, Path) else paths:
        if os.path.lexists(path) and not overwrite and not _says(path, is_own):
            raise InTheWay(f"{path} is there already, and it was not written by this command before. {way_out}")


def is_free(folder: Path) -> bool:
    """Whether nothing is there, or a folder without anything in it."""
    return not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir()))


def _says(path: Path, is_own: Callable[[Path], bool]) -> bool:
    """What cannot be read is nobody's, and so not ours."""
    try:
        return is_own(path)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def has_keys(path: Path, *names: str) -> bool:
    """Whether a JSON file is an object with these keys, as the output of one command has them."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(found, dict) and found.keys() >= {*names}


def is_page_of(path: Path, command: str) -> bool:
    """Whether a page's first lines say which command wrote it."""
    with path.open(encoding="utf-8") as lines:
        return any(
            line.startswith(f"Written by `python -m {command}") for line, _ in zip(lines, range(5), strict=False)
        )
