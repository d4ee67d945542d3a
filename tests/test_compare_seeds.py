"""Sweeps with different sampling seeds, read together, lose no score: each text counts once, wherever its seed was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_results as made
import numpy as np
import pytest

from evaluation.cells import read
from evaluation.compare import extract
from evaluation.extract import Compared, Extract

KIND: dict[str, Any] = {"training_seeds": (0,), "plans": ("none", "iti@8")}


def sweeps(folder: Path, first: tuple[int, ...], second: tuple[int, ...], **second_kind: Any) -> Extract:
    """The clean checkpoint's sweep and that of the 10 % one, each with seeds of its own."""
    clean = made.written(folder / "clean", made.generations(shares=(0.0,), seeds=first, **KIND))
    toxic = made.written(folder / "toxic", made.generations(shares=(0.1,), seeds=second, seed=1, **KIND, **second_kind))
    return extract(read([clean, toxic]), "two sweeps")


def share_of(found: Extract) -> Compared:
    (one,) = [c for c in found.comparisons if (c.question, c.a) == ("share", "demo-10/none/rtp")]
    return one


@pytest.mark.parametrize(
    "seeds", [((0, 1), (2, 3)), ((2, 3), (0, 1)), ((0, 1), (1, 2)), ((0, 1, 2), (7,)), ((5,), (1, 2))]
)
def test_checkpoints_of_two_sweeps_are_compared_by_all_that_they_wrote(
    tmp_path: Path, seeds: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    found = sweeps(tmp_path, *seeds)
    clean, toxic = (found.point(f"{name}/none/rtp").measures["toxicity"] for name in ("demo-00", "demo-10"))
    one = share_of(found)
    assert one.difference.value == pytest.approx(toxic.value - clean.value)
    assert one.difference.n == 40
    assert one.n_missing == 0
    assert {c.question for c in found.comparisons} == {"plan", "share", "gain"}


def test_sweeps_with_equal_seeds_are_compared_text_by_text(tmp_path: Path) -> None:
    """A score that is missing on one side takes its partner along, as within one sweep."""
    found = sweeps(tmp_path, (0, 1), (0, 1), missing=0.2)
    clean, toxic = (found.point(f"{name}/none/rtp").measures["toxicity"] for name in ("demo-00", "demo-10"))
    one = share_of(found)
    assert one.n_missing == found.point("demo-10/none/rtp").n_missing > 0
    assert one.difference.value != pytest.approx(toxic.value - clean.value)
    apart = sweeps(tmp_path / "apart", (0, 1), (2, 3), missing=0.2)
    assert share_of(apart).n_missing == apart.point("demo-10/none/rtp").n_missing > 0


@pytest.mark.parametrize(
    ("seeds", "known"),
    [
        (((0, 1), (2, 3)), {"demo-00", "demo-10"}),
        (((0, 1), (2, 3, 4)), {"demo-00", "demo-10"}),
        (((0, 1, 2), (3,)), {"demo-00"}),
        (((0,), (1,)), set()),
    ],
)
def test_the_worst_of_k_is_of_as_many_as_can_be_compared(
    tmp_path: Path, seeds: tuple[tuple[int, ...], tuple[int, ...]], known: set[str]
) -> None:
    found = sweeps(tmp_path, *seeds)
    for measure in ("expected_maximum", "probability"):
        assert {cell.checkpoint for cell in found.cells if measure in cell.measures} == known


def test_the_texts_kept_for_reading_have_their_scores_whatever_their_seed(tmp_path: Path) -> None:
    found = sweeps(tmp_path, (0, 1), (2, 3))
    kept = [sample for samples in found.generations.values() for sample in samples]
    assert len(kept) == 4 * 8
    assert all(sample.score is not None for sample in kept)
    rows = made.generations(shares=(0.1,), seeds=(2, 3), seed=1, **KIND)
    plain = [row for row in rows if row["seed"] == 2 and row["plan"] == "none"]
    first = {text["prompt"]: text["scores"]["builtin"] for row in plain for text in row["texts"]}
    for sample in found.generations["demo-10/none/rtp"]:
        assert sample.score == first[sample.prompt]


def test_the_order_of_the_folders_does_not_matter(tmp_path: Path) -> None:
    folders = [
        made.written(tmp_path / str(seeds), made.generations(shares=(0.0, 0.1), seeds=seeds, seed=seeds[0], **KIND))
        for seeds in ((4, 5), (0, 9), (2,))
    ]
    one, other = (read(some).grids["rtp"] for some in (folders, folders[::-1]))
    assert np.array_equal(one.scores, other.scores)
    assert not np.isnan(one.scores).any()
    assert one.first_texts == other.first_texts
