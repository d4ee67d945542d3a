"""oneDNN's matrix product, which torch keeps for `compile` and may change: it is tried before it is used.

On an AMD EPYC it is up to 3 times as fast as the library behind `linear`, and reads a large weight on two threads where
that library uses one; a packed weight is read 1.1 (one row) to 1.5 times as fast (four rows) once more.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.testing import assert_close


class LinearCalls(NamedTuple):
    """Two calls of one library."""

    multiply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """x · weightᵀ + bias, of a plain or a packed weight."""
    pack: Callable[[Tensor], Tensor]
    """A weight in the order in which the library reads it fastest."""


PRIVATE = LinearCalls(
    multiply=lambda x, weight, bias: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""),
    pack=lambda weight: torch.ops.mkldnn._reorder_linear_weight(weight),
)
"""The calls of torch 2.13."""


def find_fault(calls: LinearCalls, dtype: torch.dtype) -> str | None:
    """Say how the calls' products differ from `linear`'s in a format; None if they do not."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((2, 3, 64), (32, 64), (32,)))
    rounding = 1e-4 if dtype == torch.float32 else 0.2  # of sums of 64 products of size 1
    try:
        weights = (weight, calls.pack(weight)) if dtype == torch.float32 else (weight,)  # others are never packed
        for rows, read, added in product((x, x[:1, :1]), weights, (bias, None)):
            assert_close(calls.multiply(rows, read, added), linear(rows, weight, added), rtol=0, atol=rounding)
    except Exception as error:  # whatever a call does that has changed
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


@cache
def onednn_formats() -> frozenset[torch.dtype]:
    """Formats in which this torch multiplies with oneDNN on this processor, found out by trying at first use."""
    found = set()
    for dtype in (torch.float32, torch.bfloat16):
        if not torch.backends.mkldnn.is_available() or (dtype == torch.bfloat16 and not _has_bfloat16()):
            continue
        if fault := find_fault(PRIVATE, dtype):
            warnings.warn(
                f"The oneDNN calls of torch {torch.__version__} are not those of 2.13, so products in {dtype} are made "
                f"without them and slower; torch 2.13 has the fast ones. ({fault})",
                stacklevel=2,
            )
        else:
            found.add(dtype)
    return frozenset(found)


def _has_bfloat16() -> bool:
    asked = "_is_mkldnn_bf16_supported"
    return hasattr(torch.ops.mkldnn, asked) and getattr(torch.ops.mkldnn, asked)()
