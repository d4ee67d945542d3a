"""As many lenses are open as memory allows, each is used by one caller at a time, and what does not fit is refused."""

from __future__ import annotations

import gc
import json
import math
import shutil
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from conftest import write_tiny_olmo

from lens import BrokenCheckpoint, Checkpoint, Lens, LensPool, NotEnoughMemory, blocks, open_lens
from lens import pool as pool_module
from lens.config import ModelConfig

SOON = 20
"""Seconds within which a thread must have come through; reached only when a test fails."""


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    folder = tmp_path_factory.mktemp("family")
    return [Checkpoint.open(write_tiny_olmo(folder / f"tiny-{seed}", seed=seed)) for seed in range(3)]


@pytest.fixture
def pool() -> LensPool:
    return LensPool(device="cpu", threads=1)


@pytest.fixture
def memory(pool: LensPool, checkpoints: list[Checkpoint], monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes it look as if so many lenses fitted into what is free, always."""

    def looks(n_lenses: float) -> None:
        monkeypatch.setattr(pool_module, "free_bytes", lambda device: n_lenses * pool._size(checkpoints[0]))

    return looks


def taken(pool: LensPool, checkpoint: Checkpoint) -> weakref.ref[Lens]:
    with pool.lens(checkpoint) as lens:
        assert lens.checkpoint == checkpoint
        lens.logits(torch.tensor([[3, 4]]))  # builds the bridge, which refers to itself in circles
        return weakref.ref(lens)


def test_an_open_lens_is_used_again(pool: LensPool, checkpoints: list[Checkpoint]):
    with pool.lens(checkpoints[0]) as first:
        pass
    with pool.lens(checkpoints[0]) as second:
        assert second is first


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Python would collect circles at a moment of its own choosing."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
def test_the_one_unused_for_longest_is_closed_and_its_memory_freed(
    pool: LensPool, checkpoints: list[Checkpoint], memory: Callable[[float], None]
):
    memory(3.5)  # half of 3.5 + 1 holds two, half of 3.5 + 2 not a third
    first, second = taken(pool, checkpoints[0]), taken(pool, checkpoints[1])
    assert taken(pool, checkpoints[0])() is first()
    with pool.lens(checkpoints[2]):
        assert second() is None
        assert first() is not None


def test_new_weights_in_the_same_folder_are_another_lens(pool: LensPool, checkpoints: list[Checkpoint], tmp_path: Path):
    folder = tmp_path / "changing"
    shutil.copytree(checkpoints[0].folder, folder)
    before = taken(pool, Checkpoint.open(folder))
    shutil.copy(checkpoints[1].folder / "model.safetensors", folder)
    with pool.lens(Checkpoint.open(folder)) as lens:
        assert lens is not before()
        assert lens.description["fingerprint"] == checkpoints[1].fingerprint


def test_two_callers_take_turns(pool: LensPool, checkpoints: list[Checkpoint]):
    inside, go_on, order = threading.Event(), threading.Event(), []

    def first() -> None:
        with pool.lens(checkpoints[0]):
            inside.set()
            assert go_on.wait(SOON)
            order.append("first")

    def second() -> None:
        with pool.lens(checkpoints[0]):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(SOON)
    threads[1].start()
    threads[1].join(0.2)
    assert order == []  # the second waits outside
    go_on.set()
    for thread in threads:
        thread.join(SOON)
    assert order == ["first", "second"]


def test_two_at_once_never_wait_for_each_other(pool: LensPool, checkpoints: list[Checkpoint]):
    a, b, _ = checkpoints
    done = []

    def work(pair: list[Checkpoint]) -> None:
        for _ in range(20):
            with pool.lenses(pair) as lenses:
                assert [lens.checkpoint for lens in lenses] == pair
        done.append(pair)

    threads = [threading.Thread(target=work, args=(pair,), daemon=True) for pair in ([a, b], [b, a], [a, a])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(done) == 3


def test_a_generator_may_end_in_another_thread(pool: LensPool, checkpoints: list[Checkpoint]):
    """Gradio calls every step of a generator from whichever worker is free."""

    def steps() -> Iterator[int]:
        with pool.lens(checkpoints[0]):
            yield 1
            yield 2

    generator, seen = steps(), []
    for _ in range(2):
        thread = threading.Thread(target=lambda: seen.append(next(generator)))
        thread.start()
        thread.join(SOON)
    thread = threading.Thread(target=generator.close)
    thread.start()
    thread.join(SOON)
    assert seen == [1, 2]
    taken(pool, checkpoints[0])


def test_an_error_inside_gives_the_lens_back(pool: LensPool, checkpoints: list[Checkpoint]):
    with pytest.raises(ZeroDivisionError), pool.lens(checkpoints[0]):
        1 / 0  # noqa: B018
    taken(pool, checkpoints[0])


def test_a_whole_family_of_small_models_stays_open(pool: LensPool, checkpoints: list[Checkpoint]):
    opened = [taken(pool, checkpoint)() for checkpoint in checkpoints]
    assert [taken(pool, checkpoint)() for checkpoint in checkpoints] == opened
    with pool.lenses([*checkpoints, checkpoints[0]]) as lenses:
        assert [*lenses] == [*opened, opened[0]]


def test_more_at_once_than_fits_is_refused_and_fewer_are_not(
    pool: LensPool, checkpoints: list[Checkpoint], memory: Callable[[float], None]
):
    memory(2.5)
    sentence = (
        r"tiny-0 and tiny-1 and tiny-2 together need .* GB as float32, and .* GB are free on cpu\. .* choose fewer"
    )
    with pytest.raises(NotEnoughMemory, match=sentence), pool.lenses(checkpoints):
        pass
    with pool.lenses(checkpoints[:2]) as lenses:  # more than their share: they are in use
        assert len(lenses) == 2


def test_two_openings_do_not_count_on_the_same_memory(
    pool: LensPool, checkpoints: list[Checkpoint], memory: Callable[[float], None]
):
    """A lens takes its memory as it is used, so to whoever only looks there is room for a second one."""
    memory(1.5)
    inside, go_on, order = threading.Event(), threading.Event(), []

    def first() -> None:
        with pool.lens(checkpoints[0]):
            inside.set()
            assert go_on.wait(SOON)
            order.append("first")

    def second() -> None:
        with pool.lens(checkpoints[1]):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(SOON)
    threads[1].start()
    threads[1].join(0.3)
    assert order == []
    go_on.set()
    for thread in threads:
        thread.join(SOON)
    assert order == ["first", "second"]
    assert len(pool._open) == 1


def test_many_callers_in_little_memory_all_have_their_turn(
    pool: LensPool, checkpoints: list[Checkpoint], memory: Callable[[float], None]
):
    memory(2.2)
    most, inside, lock, done = [0], [0], threading.Lock(), []

    def work(some: list[Checkpoint]) -> None:
        for _ in range(8):
            with pool.lenses(some):
                with lock:
                    inside[0] += len(some)
                    most[0] = max(most[0], inside[0])
                with lock:
                    inside[0] -= len(some)
        done.append(some)

    a, b, c = checkpoints
    threads = [threading.Thread(target=work, args=(some,), daemon=True) for some in ([a, b], [c], [b, c], [a])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(done) == 4
    assert 2 <= most[0] <= 3  # a third one may come where two are idle and stay


def test_lenses_are_opened_by_many_threads_at_once(checkpoints: list[Checkpoint]):
    def opened(number: int) -> torch.Tensor:
        lens = open_lens(checkpoints[number % 3], "cpu", "float32")
        return lens.plain_logits(torch.tensor([[3, 4]]))

    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(opened, range(12)))
    for number, logits in enumerate(found):
        assert torch.equal(logits, found[number % 3])


def test_old_weights_of_a_folder_do_not_stay_open(pool: LensPool, checkpoints: list[Checkpoint], tmp_path: Path):
    folder = tmp_path / "changing"
    shutil.copytree(checkpoints[0].folder, folder)
    for checkpoint in (*checkpoints, *checkpoints):
        shutil.copy(checkpoint.folder / "model.safetensors", folder)
        taken(pool, Checkpoint.open(folder))
    assert len(pool._open) == 1


def test_a_checkpoint_that_cannot_be_opened_leaves_nothing_behind(
    pool: LensPool, checkpoints: list[Checkpoint], memory: Callable[[float], None], tmp_path: Path
):
    memory(1.5)
    folder = tmp_path / "broken"
    shutil.copytree(checkpoints[0].folder, folder)
    checkpoint = Checkpoint.open(folder)
    (folder / "tokenizer.json").write_text("{}")
    for _ in range(3):
        with pytest.raises(BrokenCheckpoint), pool.lens(checkpoint):
            pass
    assert not pool._sizes
    taken(pool, checkpoints[1])


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(
    pool: LensPool, checkpoints: list[Checkpoint], tmp_path: Path
):
    folder = tmp_path / "huge"
    shutil.copytree(checkpoints[0].folder, folder)
    config = {**json.loads((folder / "config.json").read_text()), "vocab_size": (1 << 40) // 24}
    (folder / "config.json").write_text(json.dumps(config))
    header, end = {}, 0
    for name, shape in ModelConfig.read(folder).shapes():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    written, weights = json.dumps(header).encode(), folder / "model.safetensors"
    weights.write_bytes(struct.pack("<Q", len(written)) + written)
    try:
        with weights.open("r+b") as file:  # four terabytes of nothing: a sparse file takes no room
            file.truncate(8 + len(written) + end)
    except OSError as error:
        pytest.skip(f"This file system holds no sparse file of 4 TB: {error}")
    with (
        pytest.raises(NotEnoughMemory, match=r"huge needs 2\d{3}\.\d GB as bfloat16, and .* free on cpu"),
        pool.lens(Checkpoint.open(folder)),
    ):
        pass
    taken(pool, checkpoints[1])  # and the pool goes on working
    assert torch.get_num_threads() == 1


def test_the_second_copy_of_a_small_model_s_matrices_is_room_that_it_needs(
    checkpoints: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = 4 * sum(weight.numel() for weight in open_lens(checkpoints[0], "cpu").model.parameters())
    monkeypatch.setattr(pool_module, "free_bytes", lambda device: 2 * weights)
    with pytest.raises(NotEnoughMemory, match="as float32"):
        taken(LensPool(device="cpu", dtype="float32"), checkpoints[0])
    taken(LensPool(device="cpu", dtype="bfloat16"), checkpoints[0])
    monkeypatch.setattr(blocks, "PACKED", 0)
    taken(LensPool(device="cpu", dtype="float32"), checkpoints[0])
