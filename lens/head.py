"""Attention heads by name, and the grid they form in a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Head:
    """One attention head, written L3H7."""

    layer: int
    """Counted from 0, at the embedding's side."""
    index: int
    """Which head of the layer, counted from 0."""

    def __str__(self) -> str:
        return f"L{self.layer}H{self.index}"

    @classmethod
    def parse(cls, name: str) -> Head:
        """The head that a person wrote down."""
        written = re.fullmatch(r"L(\d+)H(\d+)", name.strip(), flags=re.ASCII | re.IGNORECASE)
        if written is None:
            raise ValueError(f"{name!r} names no head. A head is written as layer and number, both from 0, like L3H7.")
        return cls(int(written[1]), int(written[2]))


@dataclass(frozen=True)
class HeadGrid:
    """All heads of a model: layers by heads, with sizes read from the model."""

    n_layers: int
    n_heads: int
    """Heads in each layer."""
    d_head: int
    """Width of one head's output."""

    def __iter__(self) -> Iterator[Head]:
        """Every head, layer by layer."""
        return (Head(layer, index) for layer in range(self.n_layers) for index in range(self.n_heads))

    def __len__(self) -> int:
        return self.n_layers * self.n_heads

    def __contains__(self, head: object) -> bool:
        return isinstance(head, Head) and 0 <= head.layer < self.n_layers and 0 <= head.index < self.n_heads
