"""What one batch has read serves the next one in the same model, and no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import write_tiny_olmo
from test_steering import DIRECTIONS, steering

from evaluation.unit import Bench, Subject
from lens import Checkpoint, Lens, open_lens
from steering import Row, Sampling, generate
from steering.decode import Kept

SAMPLING = Sampling(max_tokens=6, seed=2)
PROMPTS = ("The people next door are", "A small garden needs sun, water")


@pytest.fixture(scope="module")
def lenses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lens]:
    folder = tmp_path_factory.mktemp("family")
    one, other = (str(write_tiny_olmo(folder / str(seed), seed=seed)) for seed in (0, 1))
    return {
        "one": open_lens(one, "cpu", "float32", threads=1),
        "other weights": open_lens(other, "cpu", "float32", threads=1),
        "another format": open_lens(one, "cpu", "bfloat16", threads=1),
    }


def rows(n: int = 20) -> list[Row]:
    """Enough of them that prompts are read once for all."""
    return [Row(prompt, (), sample) for prompt in PROMPTS for sample in range(n)]


def written(lens: Lens, some: Sequence[Row], kept: Kept | None = None) -> list[tuple[int, ...]]:
    return [text.tokens for text in generate(lens, some, SAMPLING, kept=kept)]


@pytest.mark.parametrize("name", ["other weights", "another format"])
def test_a_prefix_cache_of_another_model_is_not_used(lenses: dict[str, Lens], name: str) -> None:
    kept: Kept = {}
    first = written(lenses["one"], rows(), kept)
    assert kept
    assert written(lenses[name], rows(), kept) == written(lenses[name], rows())
    assert {read.dtype for read in kept} == {lenses[name].description["dtype"]}
    assert {read.fingerprint for read in kept} == {lenses[name].fingerprint}
    assert written(lenses["one"], rows(), kept) == first


def test_what_was_read_is_used_again_by_the_same_model(lenses: dict[str, Lens]) -> None:
    kept: Kept = {}
    first = written(lenses["one"], rows(), kept)
    read = list(map(id, kept.values()))
    assert written(lenses["one"], rows(), kept) == first
    assert list(map(id, kept.values())) == read


def test_rows_that_steer_the_prompt_neither_fill_the_cache_nor_read_it(lenses: dict[str, Lens]) -> None:
    lens, kept = lenses["one"], Kept()
    everywhere = steering(lens, DIRECTIONS, "all").at(8)
    some = [Row(row.prompt, everywhere, row.sample) for row in rows()]
    steered = written(lens, some)
    written(lens, rows(), kept)
    before = list(map(id, kept.values()))
    assert written(lens, some, kept) == steered
    assert list(map(id, kept.values())) == before
    assert written(lens, rows(), kept) == written(lens, rows())


def test_a_worker_opens_the_number_format_and_the_folder_that_it_is_asked_for(
    lenses: dict[str, Lens], tmp_path: Path
) -> None:
    """One set of weights in two formats and in two folders, whose cards may differ."""
    one = lenses["one"].checkpoint
    copy = Checkpoint.open(write_tiny_olmo(tmp_path / "copy"))
    bench = Bench(device="cpu", threads=1)
    for checkpoint, dtype in ((one, "float32"), (one, "bfloat16"), (copy, "bfloat16"), (one, "float32")):
        lens = bench.lens(Subject.of(checkpoint, dtype))
        assert lens.description["dtype"] == dtype
        assert lens.checkpoint.folder == checkpoint.folder
        assert bench.lens(Subject.of(checkpoint, dtype)) is lens
