"""python -m evaluation score: one JSON line with a score per row of a file."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import tyro

from evaluation.cache import text_sha
from evaluation.classifier import Classifier
from evaluation.scorer import Cached, batches, missing_scores, open_scorer
from lens.table_reader import open_table, text
from lens.terminal import progress


def score(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE|-")],
    scorer: str = "builtin",
    field: str = "text",
    cache: str | None = None,
) -> None:
    """Score the toxicity of texts from 0 to 1: one JSON line per row, in the file's order, null where there is none.

    Args:
        file: A .jsonl or .csv file (also .gz), or "-": JSON lines from standard input.
        scorer: builtin, openai (key in OPENAI_API_KEY), perspective (key in PERSPECTIVE_API_KEY; ends on 31 December
            2026), or a classifier: a folder or hub id such as unitary/unbiased-toxic-roberta, with "#LABEL" behind it
            where the toxic label is in doubt.
        field: The column that holds the text; a dot leads inside an object: continuation.text.
        cache: The file that keeps scores, so that none is paid for twice; none: keep them nowhere. Default:
            hormesis/scores.sqlite in your cache folder.
    """
    opened = open_scorer(scorer, cache)
    if isinstance(opened.scorer, Classifier):
        print(f"{opened.name} reads the first {opened.scorer.longest:,} tokens of each text.", file=sys.stderr)
    n = n_missing = 0
    texts = (text(place, row, field) for place, row in open_table(file).rows)
    for batch in batches(texts, opened.at_once):
        scores = opened(batch)
        print("\n".join(line(*pair, opened) for pair in zip(batch, scores, strict=True)), flush=True)
        n, n_missing = n + len(scores), n_missing + scores.count(None)
        progress(f"{n:,} texts, {n_missing:,} without a score")
    progress()
    if n_missing:
        print(missing_scores(n_missing, n, opened.missing), file=sys.stderr)


def line(words: str, found: float | None, scorer: Cached) -> str:
    """What is known of one text, without the text."""
    row = {"text_sha": text_sha(words), "score": found, "scorer": scorer.name, "version": scorer.version}
    return json.dumps(row)
