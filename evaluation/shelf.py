"""The results that the page can show: those that ship, and those of one's own folder."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from evaluation.extract import SHIPPED, Extract, NoResults
from lens.validate import Refused, one_line

EXTRACT = "extract.json"
"""In a folder of results, what `python -m evaluation compare` leaves there for the page."""
MOST_FOLDERS = 100
MOST_BYTES = 64 * 2**20
"""Of one extract; those of the demo family have less than two."""


@dataclass(frozen=True)
class Shelf:
    """Extracts by name. Names come from the browser, paths never do."""

    own: Path | None = None
    """A folder whose subfolders may hold extracts."""
    shipped: Path = SHIPPED

    @property
    def _paths(self) -> dict[str, Path]:
        """Read anew each time, so that results which have just been compared show up on reload."""
        shipped = {path.stem: path for path in sorted(self.shipped.glob("*.json"))}
        mine = sorted(self.own.glob(f"*/{EXTRACT}"))[:MOST_FOLDERS] if self.own else []
        return shipped | {f"{path.parent.parent.name}/{path.parent.name}": path for path in mine}

    @property
    def names(self) -> list[str]:
        """Shipped ones first; one's own with their folder: results/mine."""
        return list(self._paths)

    def __getitem__(self, name: object) -> Extract:
        paths, said = self._paths, one_line(name, "the results")
        if said not in paths:
            near = get_close_matches(said, paths, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise NoResults(f"There are no results {said!r}.{hint} There are: {', '.join(paths) or 'none yet'}.")
        stat = paths[said].stat()
        if stat.st_size > MOST_BYTES:
            raise Refused(f"{said} has {stat.st_size:,} bytes; a page shows at most {MOST_BYTES:,}.")
        return _read(paths[said], stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, mtime_ns: int, size: int) -> Extract:
    """One extract, until its file changes."""
    return Extract.read(path)
