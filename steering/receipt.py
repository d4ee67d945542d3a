"""What a steered run really did: the shift that was asked for beside the one that arrived."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens import Head, Lens
from probes.direction import Direction
from steering.steerer import by_layer, o_proj


class ShiftMissed(RuntimeError):
    """Steering did not arrive where and as strongly as asked; the text would have passed for steered."""


@dataclass(frozen=True)
class Shift:
    """How far one head's layer was moved along that head's push."""

    head: Head
    requested: float
    """Length along the head's push, in units of the residual stream; all pushes of the layer together."""
    measured: float
    """The same, as the difference of what left `o_proj` with and without the push."""


@dataclass(frozen=True)
class Receipt:
    """One row of a run: what was asked, what was measured, and what it takes to repeat it."""

    sigmas: float
    shifts: tuple[Shift, ...]
    positions: str
    seed: int
    sample: int
    plan: str
    """The plan as JSON; empty where directions were given by hand."""
    model: Mapping[str, Any]
    """Checkpoint, fingerprint, device, dtype and threads."""

    @property
    def worst_miss(self) -> float:
        """Largest distance of a measured shift from the requested one; the number format's rounding, or an error."""
        return max((abs(shift.measured - shift.requested) for shift in self.shifts), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON line; heads as "L3H7"."""
        shifts = [{**asdict(shift), "head": str(shift.head)} for shift in self.shifts]
        plan = json.loads(self.plan) if self.plan else None
        return {**asdict(self), "shifts": shifts, "plan": plan, "model": dict(self.model)}

    def __str__(self) -> str:
        model = self.model
        run = f"{model['checkpoint']} {str(model['fingerprint'])[:8]}, {model['dtype']} on {model['device']}"
        run = f"{run}, {model['threads']} thread{'s' * (model['threads'] != 1)}, seed {self.seed}, sample {self.sample}"
        if not self.shifts:
            return f"not steered; {run}"
        n, n_layers = len(self.shifts), len({shift.head.layer for shift in self.shifts})
        requested, measured = (
            sum(abs(getattr(shift, name)) for shift in self.shifts) / n for name in ("requested", "measured")
        )
        return (
            f"{self.sigmas:g} sigmas on {n} head{'s' * (n != 1)} in {n_layers} layer{'s' * (n_layers != 1)}, "
            f"{self.positions} position{'s' * (self.positions == 'all')}: mean shift asked {requested:.4f}, "
            f"measured {measured:.4f}; {run}"
        )


@contextmanager
def outputs(lens: Lens, layers: Sequence[int]) -> Iterator[dict[int, list[Tensor]]]:
    """Inside the `with`, note what leaves each layer's `o_proj`: before and after the hooks that were there already.

    Entered inside `biased`, for one forward pass: two references per layer and no arithmetic until it is compared.
    """
    seen: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    with ExitStack() as undo:
        for layer in layers:
            note = _noting(seen[layer])
            undo.callback(o_proj(lens, layer).register_forward_hook(note, prepend=True).remove)
            undo.callback(o_proj(lens, layer).register_forward_hook(note).remove)
        yield seen


def compare(
    lens: Lens, directions: Sequence[Direction], sigmas: Float[Tensor, "batch"], seen: Mapping[int, list[Tensor]]
) -> list[tuple[Shift, ...]]:
    """Each row's shifts along its directions, or ShiftMissed.

    What was requested is computed from the directions by each layer's own `o_proj` and not by the code that pushed. All
    layers go together: a loop over them needs twice as many operations, and on small models these are what costs.
    """
    if not directions:
        return [() for _ in sigmas]
    layers = by_layer(lens, directions)
    members = [direction for ones in layers.values() for direction in ones]
    layer_of = torch.tensor([i for i, ones in enumerate(layers.values()) for _ in ones])
    per_sigma = torch.cat([through_o_proj(lens, layer, ones) for layer, ones in layers.items()])
    whole = torch.zeros(len(layers), lens.d_model).index_add_(0, layer_of, per_sigma)
    requested = sigmas[:, None, None] * whole
    measured = _difference(lens, list(layers), requested, seen)
    units = torch.nn.functional.normalize(per_sigma, dim=-1)
    along = torch.stack([requested, measured])[:, :, layer_of].mul_(units).sum(dim=-1).tolist()
    return [
        tuple(Shift(d.head, one, other) for d, one, other in zip(members, asked, arrived, strict=True))
        for asked, arrived in zip(*along, strict=True)
    ]


def through_o_proj(lens: Lens, layer: int, directions: Sequence[Direction]) -> Float[Tensor, "direction d_model"]:
    """One standard deviation along each direction, as its layer's `o_proj` writes it; float32 on the CPU."""
    heads = torch.zeros(len(directions), lens.grid.n_heads, lens.grid.d_head)
    for of_one, direction in zip(heads, directions, strict=True):
        of_one[direction.head.index] = direction.push(1.0)
    return torch.nn.functional.linear(heads.flatten(1), o_proj(lens, layer).weight.detach().float().cpu())


def _difference(
    lens: Lens, layers: Sequence[int], requested: Float[Tensor, "batch layer d_model"], seen: Mapping[int, list[Tensor]]
) -> Float[Tensor, "batch layer d_model"]:
    """What the pushes changed at the last position; it must be what was asked, to the number format's rounding."""
    for layer in layers:
        if len(noted := seen.get(layer, [])) != 2:
            raise ShiftMissed(
                _sentence(lens, layer, f"`o_proj` ran {len(noted) // 2} times in the first step instead of once")
            )
    before, after = (torch.stack([seen[layer][i][:, -1] for layer in layers], dim=1).float().cpu() for i in (0, 1))
    measured = after - before
    rounding = torch.finfo(lens.dtype).eps * (before.abs() + 2 * requested.abs()) + 1e-6 * requested.norm(
        dim=-1, keepdim=True
    )
    miss = (measured - requested).abs() - rounding
    if bool((miss > 0).any()):
        row, i = divmod(int(miss.amax(dim=-1).argmax()), len(layers))
        asked, arrived = requested[row, i].norm().item(), measured[row, i].norm().item()
        what = f"a shift of length {asked:.4g} was asked and {arrived:.4g} arrived"
        raise ShiftMissed(_sentence(lens, layers[i], what))
    return measured


def _sentence(lens: Lens, layer: int, what: str) -> str:
    return (
        f"Steering missed in layer {layer} of {lens.checkpoint.name}: {what}. Nothing was written, because it "
        "would have passed for steered text. Close and reopen the checkpoint; if it happens again, report it with this "
        "sentence."
    )


def _noting(seen: list[Tensor]) -> Any:
    def note(module: Any, inputs: Any, output: Tensor) -> None:
        seen.append(output)

    return note
