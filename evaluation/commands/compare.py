"""python -m evaluation compare: tables and pictures of what a sweep found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from evaluation import pictures
from evaluation.cells import read
from evaluation.compare import extract
from evaluation.extract import is_extract
from evaluation.graphs import available, graph
from evaluation.probed import stored
from evaluation.tables import csv_files, page
from lens import find, write_atomically
from lens.files import check_folder
from lens.own_output import check_own


def compare(
    results: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path,
    scorer: str | None = None,
    checkpoints: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Tables (CSV, Markdown) and pictures (PNG, SVG) of what sweeps found, with paired differences and intervals.

    Args:
        results: Folders that sweeps wrote to.
        out: The folder to write to.
        scorer: Whose scores to compare, where there are several; those of two are never mixed.
        checkpoints: Checkpoints whose stored probes to compare as well.
        overwrite: Replace files in that folder that this command did not write.
    """
    check_folder(out)
    found = extract(read(results, scorer), out.resolve().name, stored([find(name) for name in checkpoints]))
    files: dict[str, str | bytes] = {"extract.json": found.to_json(), "compare.md": page(found), **csv_files(found)}
    for one in available(found):
        name, drawn = "-".join(part for part in one if part), graph(found, *one)
        files |= {f"{name}.svg": pictures.svg(drawn), f"{name}.png": pictures.png(drawn)}
    check_own([out / name for name in files], lambda _: is_extract(out / "extract.json"), overwrite)
    for name, content in files.items():
        write_atomically(out / name, content)
    print(f"{len(found.cells):,} cells, {len(found.comparisons):,} comparisons: {out}/{{{','.join(files)}}}")
