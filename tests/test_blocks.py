"""The decoding loop's arithmetic is what plain torch gives, whichever library multiplies and however long the texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import linear
from torch.testing import assert_close

from lens import Lens, blocks, gather, open_lens
from lens.blocks import LARGE, SHORT, OnePass, Weight, attended, product, sight
from lens.onednn import PRIVATE, onednn_formats
from steering import Row, Sampling, generate

TEXTS = ["The people next door are kind", "A small garden", "They water our plants when we are away"]

NEEDS_ONEDNN = pytest.mark.skipif(torch.float32 not in onednn_formats(), reason="this torch has no oneDNN")


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", [(1, 1, 37), (3, 5, 96), (40, 1, 200)])
@pytest.mark.parametrize("n_out", [7, 4000])
@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=NEEDS_ONEDNN)])
def test_a_product_is_the_product(shape: tuple[int, ...], n_out: int, packed: bool) -> None:
    x, plain, bias = drawn(*shape), drawn(n_out, shape[-1]), drawn(n_out)
    weight = Weight(plain, PRIVATE.pack(plain) if packed else None)
    expected = x.double() @ plain.double().T
    assert_close(product(x, weight).double(), expected, rtol=0, atol=1e-4)  # sums of up to 200 products of size 1
    assert_close(product(x, weight, bias).double(), expected + bias, rtol=0, atol=1e-4)
    half = x.bfloat16(), plain.bfloat16()
    assert torch.equal(product(half[0], Weight(half[1], None)), linear(*half))


def test_large_and_small_products_are_not_made_alike() -> None:
    assert 3 * 5 * 96 * 7 < LARGE < 3 * 5 * 96 * 4000
    assert torch.float32 in onednn_formats(), "this machine would not test what it is meant to"


@pytest.fixture(scope="module")
def demo() -> Lens:
    """Wide enough for sums to be rounded otherwise."""
    return open_lens(str(Path(__file__).parent.parent / "checkpoints" / "demo-10"), "cpu", "float32", threads=1)


def test_either_library_gathers_and_writes_the_same(demo: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_it() -> tuple[torch.Tensor, list[tuple[int, ...]]]:
        rows = [Row(text, (), sample) for text in TEXTS for sample in range(2)]
        return gather(demo, TEXTS, [True, False, True], TEXTS).heads, [
            one.tokens for one in generate(demo, rows, replace(Sampling(), max_tokens=12))
        ]

    monkeypatch.setattr(blocks, "LARGE", 10**12)
    heads, tokens = all_of_it()
    monkeypatch.setattr(blocks, "LARGE", 0)
    again, same = all_of_it()
    assert_close(again, heads, rtol=0, atol=1e-4)
    assert not torch.equal(again, heads)  # it was another library
    assert same == tokens


@NEEDS_ONEDNN
def test_only_a_small_model_in_float32_has_its_matrices_twice(demo: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    def packed(dtype: str) -> set[bool]:
        lens = open_lens(str(demo.checkpoint.folder), "cpu", dtype, threads=1)
        parts = [part for block in lens.blocks for part in vars(block).values()]
        return {part.packed is not None for part in (lens.unembedding, *parts) if isinstance(part, Weight)}

    assert packed("float32") == {True}
    assert packed("bfloat16") == {False}
    monkeypatch.setattr(blocks, "PACKED", sum(weight.nbytes for weight in demo.model.parameters()) - 1)
    assert packed("float32") == {False}


@pytest.mark.parametrize("n", [1, 2, SHORT, SHORT + 1])
@pytest.mark.parametrize("n_padding", [0, 1])
@pytest.mark.parametrize("n_kv_heads", [4, 2])
def test_short_texts_see_what_long_ones_do(n: int, n_padding: int, n_kv_heads: int) -> None:
    queries, keys, values = drawn(3, 4, n, 6), drawn(3, n_kv_heads, n, 6), drawn(3, n_kv_heads, n, 6)
    real = torch.ones(3, n, dtype=torch.long)
    real[1, : n_padding * (n - 1)] = 0
    found = OnePass().attend(0, queries, keys, values, sight(real))
    assert_close(found, attended(queries, keys, values, sight(real)), rtol=0, atol=1e-5)
    assert_close(found[0, :, 0], values.repeat_interleave(4 // n_kv_heads, dim=1)[0, :, 0])  # nothing stands before it
