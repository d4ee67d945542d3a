"""How fast the built-in scorer reads, beside the usual linear scorer of scikit-learn; neither uses more than one core.

python -m benchmarks.scorer
python -m benchmarks.scorer --texts TEXTS.jsonl --json scorer.json

The linear scorer hashes words, pairs of words and character n-grams of 2 to 5 letters and multiplies by a vector; its
weights are random, for speed does not depend on them. Both start with the same texts and end with a score each, and
take turns inside each repeat; a ratio is taken within a repeat. Times are of the processor, so that others on the same
machine matter little.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from benchmarks.roads import Spread
from evaluation.builtin_scorer import BuiltinScorer
from lens import write_atomically
from lens.table_reader import open_table, text
from lens.terminal import run_function
from probes import builtin

AIM = 5000
"""Short texts per second and core: what was promised."""


def linear_scorer() -> Callable[[Sequence[str]], np.ndarray]:
    """Scikit-learn's hashing vectoriser, twice, and one vector of weights."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    views = HashingVectorizer(ngram_range=(1, 2)), HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5))
    weights = np.random.default_rng(0).standard_normal(sum(view.n_features for view in views))
    return lambda texts: hstack([view.transform(texts) for view in views]).tocsr() @ weights


def cpu_seconds(road: Callable[[Sequence[str]], object], texts: Sequence[str]) -> float:
    start = time.process_time()
    road(texts)
    return time.process_time() - start


def main(
    texts: Path | None = None,
    field: str = "text",
    n: int = 5000,
    repeats: int = 7,
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Measure, print, and keep the numbers.

    Args:
        texts: A .jsonl or .csv file of texts; default: the built-in probe texts, over and over.
        field: The column that holds the text.
        n: How many texts.
        repeats: How often both take their turn.
        as_json: Where the numbers go.
    """
    found = (
        [text(*placed, field) for placed in open_table(texts).rows] if texts else [one.text for one in builtin().texts]
    )
    chosen = (found * (n // len(found) + 1))[:n]
    opening = cpu_seconds(lambda _: BuiltinScorer.open(), chosen)
    ours, theirs = BuiltinScorer.open(), linear_scorer()
    ours(chosen[:100]), theirs(chosen[:100])
    pairs = [(cpu_seconds(ours, chosen), cpu_seconds(theirs, chosen)) for _ in range(repeats)]
    result = {
        "n_texts": n,
        "mean_characters": round(statistics.mean(map(len, chosen)), 1),
        "different_texts": len(set(chosen)),
        "seconds_to_open": round(opening, 3),
        "texts_per_second": round(n / statistics.median(mine for mine, _ in pairs)),
        "linear_texts_per_second": round(n / statistics.median(other for _, other in pairs)),
        "of_linear": asdict(Spread.of([other / mine for mine, other in pairs])),
        "aim_met": n / statistics.median(mine for mine, _ in pairs) >= AIM,
    }
    print(json.dumps(result, indent=1))
    if as_json is not None:
        write_atomically(as_json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
