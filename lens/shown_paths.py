"""Paths as the page shows them: nobody has to know where this server keeps its files."""

from __future__ import annotations

import re
from pathlib import Path

ABSOLUTE = re.compile(r"(?<![\w.:/~])(?:/[^\s/'\"`<>]+){2,}")
"""An absolute path of two names or more; an address with :// before it is none."""
PROGRAM = Path(__file__).resolve().parent.parent


def shown_folder(folder: Path) -> Path:
    """A folder from where the program was started, or by its own name if it lies elsewhere."""
    if not folder.is_absolute():
        return folder
    for base in (Path.cwd(), PROGRAM):
        if folder.is_relative_to(base):
            return folder.relative_to(base)
    return Path(folder.name)


def without_folders(text: str, *folders: Path) -> str:
    """A sentence whose absolute paths have become short; those inside the given folders keep their way from there."""
    for folder in (*folders, Path.cwd(), PROGRAM):
        if folder.is_absolute() and folder != Path("/"):
            text = text.replace(f"{folder}/", f"{shown_folder(folder)}/" if folder in folders else "")
    return ABSOLUTE.sub(lambda path: _last_names(path[0]), text)


def _last_names(path: str) -> str:
    """The end of a path: enough to know a file by, too little to say where it is."""
    _, *names = path.split("/")
    return "/".join(names[-2:]) if len(names) > 2 else names[-1]
