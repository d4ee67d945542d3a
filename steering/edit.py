"""What steering changes: at a site, x ← x + strength · gate(x) · change(x), for every method there is.

Several edits at one site all read the x that came in, and what they add is summed: their order does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Where = Literal["heads", "residual"]


@dataclass(frozen=True, order=True)
class Site:
    """A place in every layer that can be edited."""

    layer: int
    where: Where
    """heads: what the layer's heads hand to `o_proj`, side by side [n_heads * d_head]. residual: the residual stream
    after the layer [d_model]."""

    def __post_init__(self) -> None:
        if self.where not in get_args(Where):
            raise ValueError(f"where is one of {', '.join(get_args(Where))}; got {self.where!r}.")

    def __str__(self) -> str:
        return f"layer {self.layer}, {self.where}"


@dataclass(frozen=True, eq=False)
class Affine:
    """change(x) = constant + scale ∘ x + left · (right · x); what is None is not there. float32."""

    constant: Float[Tensor, " d"]
    scale: Float[Tensor, " d"] | None = None
    left: Float[Tensor, "d rank"] | None = None
    right: Float[Tensor, "rank d"] | None = None

    @property
    def is_constant(self) -> bool:
        return self.scale is None and self.left is None

    def __call__(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        change = self.constant
        if self.scale is not None:
            change = change + self.scale * x
        if self.left is not None and self.right is not None:
            change = change + x @ self.right.T @ self.left.T
        return change.expand_as(x)

    def to(self, device: torch.device) -> Affine:
        parts = (self.constant, self.scale, self.left, self.right)
        return Affine(*(None if part is None else part.to(device) for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Gate:
    """Lets an edit act only where a probe says "toxic" (after CAST, Lee et al. 2024, arXiv 2409.05907).

    It reads the very activation that the edit is about to change: row by row, token by token, with no look ahead.
    """

    weight: Float[Tensor, " d"]
    """Of the site's probe; zero outside the head that it reads."""
    bias: float
    threshold: float
    """Probability of the positive class above which the gate opens; at 1 it never does."""

    def opens(self, x: Float[Tensor, "*batch d"]) -> Bool[Tensor, "*batch"]:
        wide = torch.float32 if x.device.type == "mps" else torch.float64  # so that no kernel decides a close call
        return torch.sigmoid(x.to(wide) @ self.weight.to(wide) + self.bias) > self.threshold

    def to(self, device: torch.device) -> Gate:
        return Gate(self.weight.to(device), self.bias, self.threshold)


@dataclass(frozen=True, eq=False)
class Edit:
    """One change at one site."""

    name: str
    """"L3H7" for a head, "L3" for a layer."""
    site: Site
    change: Affine
    gate: Gate | None = None

    @property
    def is_push(self) -> bool:
        """The same vector whatever the model computes: a bias."""
        return self.gate is None and self.change.is_constant

    def to(self, device: torch.device) -> Edit:
        return Edit(self.name, self.site, self.change.to(device), self.gate and self.gate.to(device))


def padded(part: Float[Tensor, " d_head"], index: int, n_heads: int) -> Float[Tensor, " d_site"]:
    """One head's vector among all heads of its layer, the others zero."""
    heads = part.new_zeros(n_heads, part.shape[-1])
    heads[index] = part
    return heads.flatten()
