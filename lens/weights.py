"""Whether an open model is still the one that was opened.

The fast path holds fused and packed copies of the weights, and a lens names its weights by the fingerprint of their
files. A change of the open model reaches neither, so it is looked for before anything is computed. Replaced modules and
tensors have another identity; changes in place are counted by torch, except those through `.data`, which a sample of
the numbers shows: some of every row and of every column of each matrix.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes of a number: its bits are added up, since NaN would hide what stands beside it."""
SETTINGS = ("clip_qkv", "num_attention_heads", "num_key_value_heads")
"""What layers copy from the model's config."""


class ChangedWeights(ValueError):
    """An open model that is not the one that was opened."""


class Seal:
    """A model's parts, tensors and numbers as they are when it is made."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = [(name, module, _parts(module)) for name, module in model.named_modules()]
        self._settings = _settings(model)
        named = {id(tensor): (name, tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
        self._names, self._tensors = zip(*named.values(), strict=True)
        self._kinds = [(tensor.dtype, tensor.shape, tensor.device) for tensor in self._tensors]
        self._sums = _sums(map(_eights, self._tensors))
        self._mark()
        self._sampled = _sums(self._samples)

    def change(self, model: nn.Module) -> str | None:
        """The name of something that is not as it was; None: nothing."""
        if model is not self._modules[0][1]:
            return "the model itself"
        replaced = next((name for name, module, parts in self._modules if _parts(module) != parts), None)
        if replaced is not None or _settings(model) != self._settings:
            return replaced or "its config"
        kinds = [(tensor.dtype, tensor.shape, tensor.device) for tensor in self._tensors]
        if kinds != self._kinds:
            return self._first(kinds, self._kinds)
        if self._marks != list(map(_marks, self._tensors)):  # written to, or moved, as layers are when they are fused
            if (written := self._first(_sums(map(_eights, self._tensors)), self._sums)) is not None:
                return written
            self._mark()
        return self._first(_sums(self._samples), self._sampled)

    def _mark(self) -> None:
        """Remember where the numbers lie and how often they were written to, and some of them."""
        self._marks = list(map(_marks, self._tensors))
        self._samples = [_sample(tensor) for tensor in self._tensors]

    def _first(self, now: list[Any], before: list[Any]) -> str | None:
        return next((name for name, one, other in zip(self._names, now, before, strict=True) if one != other), None)


def _parts(module: nn.Module) -> tuple[int, ...]:
    """What a module is made of."""
    held = (module._parameters, module._modules, module._buffers)
    return tuple(id(part) for parts in held for part in parts.values())


def _settings(model: nn.Module) -> tuple[Any, ...]:
    return tuple(getattr(model.config, name, None) for name in SETTINGS)


def _marks(tensor: Tensor) -> tuple[int, int]:
    """Where its numbers lie, and how often they were written to, apart from writes through `.data`."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _bits(tensor: Tensor) -> Tensor:
    """The numbers in a row, as whole numbers."""
    return tensor.detach().reshape(-1).view(INTEGERS[tensor.element_size()])


def _eights(tensor: Tensor) -> Tensor:
    """The same, eight bytes at a time where they divide: added up four times as fast."""
    bits = _bits(tensor)
    if bits.nbytes % 8:
        return bits
    aligned = bits.storage_offset() * bits.element_size() % 8 == 0  # a part of a fused matrix may not be
    return (bits if aligned else bits.clone()).view(torch.int64)


def _sample(tensor: Tensor) -> Tensor:
    """A view of some numbers of each row and each column: every so many-th, a step without a factor of the width."""
    if tensor.dim() < 2:
        return _bits(tensor)
    n_rows, width = math.prod(tensor.shape[:-1]), tensor.shape[-1]
    step = next(n for n in range(min(n_rows, width), 0, -1) if math.gcd(n, width) == 1)
    return _bits(tensor)[::step]


def _sums(numbers: Any) -> list[int]:
    """The sum of each tensor of whole numbers; on a GPU, one wait for all."""
    return torch.stack([one.sum() for one in numbers]).tolist()
