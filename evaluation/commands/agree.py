"""python -m evaluation agree: how two scorers relate on the same texts, so that old scores can be placed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from evaluation.agree import agreement, picture
from evaluation.scorer import AT_ONCE, batches, missing_scores, open_scorer
from lens.files import check_folder, write_atomically
from lens.own_output import check_own, has_keys
from lens.table_reader import Placed, number, open_table, text
from lens.terminal import progress

COLUMN = "column:"
Spec = Annotated[str, tyro.conf.Positional]
Scores = Callable[[Sequence[Placed]], list[float | None]]


def agree(
    first: Spec,
    second: Spec,
    texts: str,
    out: Path = Path("agreement"),
    field: str = "text",
    cache: str | None = None,
    overwrite: bool = False,
) -> None:
    """How two scorers relate on the same texts: correlations, AUCs, where the first's scores lie on the second's scale.

    Writes agree.json, agree.md, agree.png and agree.svg.

    Args:
        first: A scorer as in `score`, or "column:NAME": scores that the file itself holds, such as old Perspective's.
        second: Another.
        texts: A .jsonl or .csv file (also .gz), or "-": JSON lines from standard input.
        out: The folder to write to; what this command wrote there before is replaced.
        field: The column that holds the text; a dot leads inside an object: continuation.text.
        cache: The file that keeps scores; none: keep them nowhere. Default: in your cache folder.
    """
    check_folder(out)
    check_own(files_in(out), lambda _: has_keys(out / "agree.json", "first", "second", "steps"), overwrite)
    one, one_scores, one_missing = scores_of(first, field, cache)
    other, other_scores, other_missing = scores_of(second, field, cache)
    a: list[float | None] = []
    b: list[float | None] = []
    for batch in batches(open_table(texts).rows, AT_ONCE):
        a += one_scores(batch)
        b += other_scores(batch)
        progress(f"{len(a):,} texts")
    progress()
    for name, scores, why in ((one, a, one_missing), (other, b, other_missing)):
        if n_missing := scores.count(None):
            print(f"{name}: {missing_scores(n_missing, len(scores), why)}", file=sys.stderr)
    found = agreement(one, other, a, b, np.random.default_rng(0))
    drawn = picture(found, a, b)
    for kind in ("png", "svg"):
        write_atomically(out / f"agree.{kind}", drawn(kind))
    write_atomically(out / "agree.md", f"{found}\n")
    write_atomically(out / "agree.json", json.dumps(asdict(found), ensure_ascii=False, indent=1) + "\n")
    print(f"{found}\n\n{out}/{{agree.json,agree.md,agree.png,agree.svg}}")


def files_in(folder: Path) -> list[Path]:
    """What the command writes."""
    return [folder / f"agree.{kind}" for kind in ("json", "md", "png", "svg")]


def scores_of(spec: str, field: str, cache: str | None) -> tuple[str, Scores, Counter[str]]:
    """A name with its version, what gives rows their scores, and what counts why there is none."""
    if spec.startswith(COLUMN):
        column = spec.removeprefix(COLUMN)
        return column, lambda batch: [number(place, row, column) for place, row in batch], Counter()
    scorer = open_scorer(spec, cache)
    name = f"{scorer.name} {scorer.version}"
    return name, lambda batch: scorer([text(*placed, field) for placed in batch]), scorer.missing
