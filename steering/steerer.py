"""Add directions to heads while a model runs: two roads to one number.

The reference road edits what each head puts out, through the TransformerBridge. The fast road adds what that edit
becomes behind `o_proj`, on the plain Hugging Face model: W_O · (sigmas · sigma · unit), one vector per layer, which is
exact because `o_proj` is linear and the push is constant (Li et al. 2023, arXiv 2306.03341, section 3). The two share
no arithmetic, so that each tests the other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens import Lens
from probes.direction import Direction

POSITIONS = ("last", "all")
"""last: the last position of each forward pass, so the last prompt token and every generated one (ITI as published).
all: every position, as in cost measures and baked checkpoints."""
MOST_SIGMAS = 100.0
"""Beyond this a strength is a mistake: at 12 the paper's models already pay for it."""


@contextmanager
def steered(
    lens: Lens, directions: Sequence[Direction], sigmas: float | Float[Tensor, "batch"], positions: str = "last"
) -> Iterator[None]:
    """Inside the `with`, `lens.logits` adds every direction to its head's output: the reference road.

    Rows of a batch may have strengths of their own.
    """
    strengths = checked_sigmas(sigmas)
    edit = {"last": _push_last, "all": _push_all}[checked_positions(positions)]
    with ExitStack() as undo:
        for layer, members in by_layer(lens, directions).items():
            push = torch.zeros(len(strengths), 1, lens.grid.n_heads, lens.grid.d_head)
            for direction in members:
                for row, strength in enumerate(strengths.tolist()):
                    push[row, 0, direction.head.index] += direction.push(strength).float().cpu()
            undo.enter_context(lens.on_heads(layer, partial(edit, push=push.to(lens.device, lens.dtype))))
        yield


def pushes(
    lens: Lens, directions: Sequence[Direction], sigmas: float | Float[Tensor, "batch"]
) -> dict[int, Float[Tensor, "batch d_model"]]:
    """What steering adds to the residual stream behind each layer's `o_proj`, for every row's strength."""
    strengths = checked_sigmas(sigmas).to(lens.device)
    vectors = {}
    for layer, members in by_layer(lens, directions).items():
        W_O = lens.W_O(layer).float()
        per_sigma = sum(d.sigma * d.unit.float().to(lens.device) @ W_O[d.head.index] for d in members)
        vectors[layer] = (strengths[:, None] * per_sigma).to(lens.dtype)
    return vectors


@dataclass
class Bias:
    """The pushes that hooks add to the plain model, with a switch: hanging hooks up anew for each token costs 4 %."""

    pushes: dict[int, Float[Tensor, "batch 1 d_model"]]
    """By layer; may be replaced between two forward passes when rows leave the batch."""
    on: bool = True
    fired: int = 0
    """How often a layer's push was added."""


@contextmanager
def biased(lens: Lens, pushes: Mapping[int, Float[Tensor, "batch d_model"]], positions: str = "last") -> Iterator[Bias]:
    """Inside the `with`, the plain model adds each layer's push behind `o_proj`: the fast road."""
    add = {"last": _add_last, "all": _add_all}[checked_positions(positions)]
    bias = Bias({layer: push[:, None] for layer, push in pushes.items()})

    def hook_of(layer: int) -> Callable[[Any, Any, Tensor], Tensor | None]:
        def hook(module: Any, inputs: Any, output: Tensor) -> Tensor | None:
            if not bias.on:
                return None
            bias.fired += 1
            return add(output, bias.pushes[layer])

        return hook

    with ExitStack() as undo:
        for layer in pushes:
            undo.callback(o_proj(lens, layer).register_forward_hook(hook_of(layer)).remove)
        yield bias


def o_proj(lens: Lens, layer: int) -> torch.nn.Linear:
    """Where a layer's heads are written into the residual stream, in the plain model."""
    return lens.model.model.layers[layer].self_attn.o_proj


def by_layer(lens: Lens, directions: Sequence[Direction]) -> dict[int, list[Direction]]:
    """The directions of each layer that has any; refuses those that belong to a model of another shape."""
    layers: defaultdict[int, list[Direction]] = defaultdict(list)
    for direction in directions:
        width = direction.unit.shape[-1]
        if direction.head not in lens.grid or width != lens.grid.d_head:
            raise ValueError(
                f"The direction at {direction.head} ({width} wide) does not fit {lens.checkpoint.name}: "
                f"{lens.grid.n_layers} layers of {lens.grid.n_heads} heads, each {lens.grid.d_head} wide. "
                "Use probes that were fitted on this checkpoint."
            )
        layers[direction.head.layer].append(direction)
    return dict(sorted(layers.items()))


def checked_sigmas(sigmas: float | Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Strengths as one float32 row per batch row (a single one stands for all), refused where they are no strengths."""
    strengths = torch.as_tensor(sigmas, dtype=torch.float32, device="cpu").reshape(-1)
    for strength in strengths.tolist():
        if not (math.isfinite(strength) and abs(strength) <= MOST_SIGMAS):
            raise ValueError(
                f"A strength is a number of standard deviations between -{MOST_SIGMAS:g} and {MOST_SIGMAS:g}, "
                f"and the paper's strong steering is 12; got {strength:g}."
            )
    return strengths


def checked_positions(positions: str) -> str:
    if positions not in POSITIONS:
        raise ValueError(f"positions is one of {' or '.join(map(repr, POSITIONS))}; got {positions!r}.")
    return positions


def _push_last(z: Float[Tensor, "batch pos head d_head"], push: Float[Tensor, "#batch 1 head d_head"]) -> Tensor:
    return torch.cat([z[:, :-1], z[:, -1:] + push], dim=1)


def _push_all(z: Float[Tensor, "batch pos head d_head"], push: Float[Tensor, "#batch 1 head d_head"]) -> Tensor:
    return z + push


def _add_last(output: Float[Tensor, "batch pos d_model"], push: Float[Tensor, "#batch 1 d_model"]) -> Tensor:
    if output.shape[1] == 1:  # every step of decoding
        return output + push
    return torch.cat([output[:, :-1], output[:, -1:] + push], dim=1)


def _add_all(output: Float[Tensor, "batch pos d_model"], push: Float[Tensor, "#batch 1 d_model"]) -> Tensor:
    return output + push
