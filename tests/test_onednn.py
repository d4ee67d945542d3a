"""Torch's private oneDNN calls are used only while they give what `linear` gives."""

import re
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from lens.blocks import Weight, has_twice, product, readied
from lens.onednn import PRIVATE, LinearCalls, find_fault, onednn_formats

HAS_ONEDNN = torch.backends.mkldnn.is_available()
RIGHT = LinearCalls(linear, torch.clone)


def removed(*_: object) -> Tensor:
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")


@pytest.fixture
def tried_anew() -> Iterator[None]:
    """The calls are tried anew, and once more after the test."""
    onednn_formats.cache_clear()
    yield
    onednn_formats.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_calls_that_multiply_rightly_have_no_fault(dtype: torch.dtype) -> None:
    assert find_fault(RIGHT, dtype) is None
    if dtype in onednn_formats():
        assert find_fault(PRIVATE, dtype) is None


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"multiply": removed}, "AttributeError: .* no attribute '_linear_pointwise'"),
        ({"multiply": lambda x, weight, bias: linear(x, weight)}, "not close"),
        ({"multiply": lambda x, weight, bias: linear(x, weight, bias) * 1.01}, "not close"),
        ({"multiply": lambda x, weight, bias: linear(x, weight, bias) * torch.nan}, "not close"),
        ({"multiply": lambda x, weight, bias: linear(x, weight, bias).double()}, "dtype"),
        ({"multiply": lambda x, weight, bias: linear(x, weight, bias).flatten(0, 1)}, "shape"),
        ({"multiply": lambda x, weight, bias: None}, "None"),
        ({"pack": removed}, "AttributeError"),
        ({"pack": lambda weight: weight.flip(0)}, "not close"),
    ],
)
def test_calls_that_have_changed_are_found_out(changed: dict[str, object], fault: str) -> None:
    assert re.search(fault, find_fault(RIGHT._replace(**changed), torch.float32) or "none")


@pytest.mark.skipif(not HAS_ONEDNN, reason="this torch has no oneDNN")
@pytest.mark.usefixtures("tried_anew")
@pytest.mark.parametrize("changed", [removed, lambda x, *_: x.new_zeros(*x.shape[:-1], 32)], ids=["gone", "wrong"])
def test_a_torch_whose_call_has_changed_multiplies_with_linear(
    changed: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, plain = torch.randn(4, 512), torch.randn(4000, 512)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", changed)
    with pytest.warns(UserWarning, match=r"are not those of 2\.13"):
        assert torch.equal(product(x, Weight(plain, None)), linear(x, plain))
    assert onednn_formats() == frozenset()
    twice = has_twice(10, torch.device("cpu"), torch.float32)
    assert not twice
    assert readied(plain, twice).packed is None
