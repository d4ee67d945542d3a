"""python -m evaluation reproduce: a family's results beside the paper's, as a page."""

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
from evaluation.report import page
from evaluation.report_tables import IN_PAGE
from lens import find, write_atomically
from lens.files import check_file, check_folder
from lens.own_output import check_own, is_page_of


def reproduce(
    results: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path = Path("docs/reproduction.md"),
    checkpoints: tuple[str, ...] = (),
    scorer: str | None = None,
    extract_to: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Set what sweeps found beside the paper's numbers: a page whose sentences are made from the results.

    Args:
        results: Folders that sweeps wrote to.
        out: The page; its pictures go into a folder of the same name.
        checkpoints: The checkpoints themselves, for what their stored probes show.
        scorer: Whose scores to use, where there are several.
        extract_to: Where to write the numbers behind the page, with some masked texts: what the Compare tab shows.
        overwrite: Replace files that this command did not write.
    """
    for path in (out, *([extract_to] if extract_to else [])):
        check_file(path)
    check_folder(out.with_suffix(""))
    check_own(out, is_page, overwrite)
    check_own([extract_to] if extract_to else [], is_extract, overwrite, "Give another name, or --overwrite.")
    found, opened = read(results, scorer), [find(name) for name in checkpoints]
    families = {grid.sources[0].family for grid in found.grids.values()}
    shown = extract(found, extract_to.stem if extract_to else "-".join(sorted(families)), stored(opened))
    sizes = sorted({one.card["n_parameters"] for one in opened if "n_parameters" in one.card})
    size = f"of {' and '.join(f'{n / 1e6:,.1f}' for n in sizes)} million parameters" if sizes else "named below"
    folder = out.with_suffix("")
    drawn = {folder / f"{'-'.join(filter(None, one))}.svg": one for one in available(shown) if one[0] in IN_PAGE}
    check_own(drawn, lambda _: is_page(out), overwrite)
    for path, one in drawn.items():
        write_atomically(path, pictures.svg(graph(shown, *one)))
    if extract_to:
        shown.write(extract_to)
    write_atomically(out, page(found, shown, folder.name, size))
    print(f"{out}, {folder}/{f', {extract_to}' if extract_to else ''}")


def is_page(path: Path) -> bool:
    """Whether a file is a page of this command."""
    return is_page_of(path, "evaluation reproduce")
