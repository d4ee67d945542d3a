"""One copy of the weights, whichever roads are open, and of the file none."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from conftest import write_tiny_olmo
from torch import Tensor

from lens import Checkpoint, Lens, blocks, open_lens
from lens.blocks import Weight

TOKENS = torch.tensor([[5, 9, 2, 40, 7]])


@pytest.fixture
def fresh(tmp_path: Path) -> Lens:
    return open_lens(Checkpoint.open(write_tiny_olmo(tmp_path / "tiny", attention_bias=True)), "cpu", "float32")


def held(tensors: Iterable[Tensor]) -> int:
    """Bytes of memory behind some tensors, each piece counted once."""
    pieces = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(pieces.values())


@pytest.mark.parametrize("bridge_first", [False, True])
def test_the_loop_and_the_bridge_share_the_model_s_weights(
    fresh: Lens, bridge_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a large model; a small one's matrices are there twice (test_blocks)."""
    monkeypatch.setattr(blocks, "PACKED", 0)
    weights = {name: weight.clone() for name, weight in fresh.model.named_parameters()}
    if bridge_first:
        fresh.logits(TOKENS)
    parts = [fresh.unembedding, *(part for block in fresh.blocks for part in vars(block).values())]
    assert all(part.packed is None for part in parts if isinstance(part, Weight))
    loop = [part for part in parts if isinstance(part, Tensor)] + [w.plain for w in parts if isinstance(w, Weight)]
    reference = fresh.logits(TOKENS)
    assert held([*fresh.model.parameters(), *fresh._bridge.parameters(), *loop]) == sum(
        w.nbytes for w in weights.values()
    )
    assert all(torch.equal(weight, weights[name]) for name, weight in fresh.model.named_parameters())
    torch.testing.assert_close(fresh.plain_logits(TOKENS), reference, rtol=0, atol=1e-4)  # float32, other kernels


@pytest.mark.skipif(sys.platform != "linux", reason="the list of mapped files is Linux's")
def test_the_loop_lets_go_of_the_file(fresh: Lens) -> None:
    def mapped() -> bool:
        return str(fresh.checkpoint.folder / "model.safetensors") in Path("/proc/self/maps").read_text()

    assert mapped()
    assert fresh.blocks
    assert not mapped()


def test_weights_first_used_by_the_loop_can_still_be_trained(fresh: Lens) -> None:
    with torch.inference_mode():  # as the loop does
        assert fresh.blocks
    fresh.model.requires_grad_(True)
    fresh.model(TOKENS, labels=TOKENS).loss.backward()
    assert all(weight.grad is not None for weight in fresh.model.parameters())
