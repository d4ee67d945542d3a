"""Steps that a GPU can replay write what the growing loop writes; here without a graph, which needs a GPU.

`benchmarks/on_gpu.py` compares replayed steps with plain ones where there is one.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from marked import EDITS, WORDS, marked, marked_lens
from torch.testing import assert_close

from lens import Lens
from lens.blocks import StillCache
from steering import Row, Sampling, Shifts, Steering, fit, generate
from steering import graph as module
from steering.decode import MANY_ROWS, Decoder
from steering.graph import ALIGNED

PROMPTS = ("The people next door are", "A small garden needs sun, water", "T")
SAMPLINGS = [Sampling(0, max_tokens=30), Sampling(seed=3, max_tokens=30)]
Fitted = dict[str, tuple[Steering, float]]


@pytest.fixture(scope="module")
def lens(tmp_path_factory: pytest.TempPathFactory) -> Lens:
    return marked_lens(tmp_path_factory.mktemp("marked") / "tiny")


@pytest.fixture(scope="module")
def fitted(lens: Lens) -> Fitted:
    return {name: (fit(plan, lens, marked()), strength) for name, (plan, strength) in (EDITS | WORDS).items()}


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps are repeated without change on the CPU, too; the width of the mask of each that was."""
    widths: list[int] = []
    mask = StillCache.mask
    monkeypatch.setattr(module, "REPLAYING", {"cpu"})
    monkeypatch.setattr(StillCache, "mask", lambda cache: widths.append(cache.layers[0].shape[-2]) or mask(cache))
    return widths


def growing(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> object:
    """The same work with a cache that grows."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "REPLAYING", set())
        return work()


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "drawn"])
def test_still_steps_write_what_growing_ones_do(
    lens: Lens, fitted: Fitted, still: list[int], monkeypatch: pytest.MonkeyPatch, sampling: Sampling
) -> None:
    """All methods and strengths, and prompts of every length, in one batch."""
    rows = [Row(PROMPTS[0], ours.at(strength)) for ours, strength in fitted.values()]
    (iti, sigmas), (caa, differences) = fitted["iti"], fitted["caa, gate"]
    rows += [Row(PROMPTS[1], iti.at(sigmas) + caa.at(differences)), Row(PROMPTS[2]), Row(PROMPTS[1], iti.at(-sigmas))]
    found = generate(lens, rows, sampling)
    assert len(still) > 0
    assert {width % ALIGNED for width in still} == {0}
    expected = growing(monkeypatch, lambda: generate(lens, rows, sampling))
    assert [text.tokens for text in found] == [text.tokens for text in expected]
    assert [text.receipt.gated for text in found] == [text.receipt.gated for text in expected]
    assert any(text.receipt.gated for text in found)


def test_rows_are_dropped_and_the_others_go_on(
    lens: Lens, fitted: Fitted, still: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    iti, strength = fitted["iti, gate"]
    tokens = [lens.encode(prompt) for prompt in PROMPTS]

    def logits() -> list[torch.Tensor]:
        shifts = Shifts(lens, [iti.at(sigmas * strength) for sigmas in (1, -1, 0)])
        decoder = Decoder(lens, [prompt[:-1] for prompt in tokens], range(3), 40, shifts)
        found, given = [], torch.tensor([prompt[-1] for prompt in tokens])
        for step in range(30):
            if step in (9, 18):
                kept = torch.tensor([2, 0] if step == 9 else [1])
                given = given[kept]
                shifts.keep(kept)
                decoder.keep(kept)
            found.append(decoder.step(given, shifts).clone())
            given = found[-1].argmax(dim=-1)
        return found

    found, expected = logits(), growing(monkeypatch, logits)
    assert len(still) == 30
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=0, atol=1e-4)  # sums over the whole width and over a part are rounded otherwise


def test_many_rows_are_still_too(lens: Lens, still: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(prompt, (), sample) for prompt in PROMPTS for sample in range(MANY_ROWS)]
    found = generate(lens, rows, SAMPLINGS[1])
    assert len(still) > 0
    expected = growing(monkeypatch, lambda: generate(lens, rows, SAMPLINGS[1]))
    assert [text.tokens for text in found] == [text.tokens for text in expected]
    still.clear()
    monkeypatch.setattr("steering.decode.COPIES", 1000)
    shared = generate(lens, rows, SAMPLINGS[1])
    assert still == [], "beginnings whose copies would not fit are shared, and nothing is recorded"
    assert [text.tokens for text in shared] == [text.tokens for text in expected]


def test_a_short_text_is_not_worth_a_recording(lens: Lens, still: list[int]) -> None:
    generate(lens, [Row(PROMPTS[0])], Sampling(0, max_tokens=4))
    assert still == []


def test_a_batch_that_is_over_leaves_nothing(lens: Lens, still: list[int]) -> None:
    """Without waiting for the garbage collector: a GPU's memory would fill up."""
    import gc
    import weakref

    shifts = Shifts(lens, [()])
    decoder = Decoder(lens, [[5]], [0], 20, shifts)
    gc.disable()
    try:
        decoder.step(torch.tensor([7]), shifts)
        gone = weakref.ref(decoder)
        assert len(still) == 1
        del decoder
        assert gone() is None
    finally:
        gc.enable()
