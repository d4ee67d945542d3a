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

    What was requested is computed from the directions by the layer's own `o_proj` and not by the code that pushed.
    """
    rows: list[list[Shift]] = [[] for _ in sigmas]
    for layer, members in by_layer(lens, directions).items():
        per_sigma = torch.stack([through_o_proj(lens, direction) for direction in members])
        requested = sigmas[:, None] * per_sigma.sum(dim=0)
        measured = _difference(lens, layer, requested, seen.get(layer, []))
        units = torch.nn.functional.normalize(per_sigma, dim=-1)
        along = zip((requested @ units.T).tolist(), (measured @ units.T).tolist(), strict=True)
        for shifts, (asked, arrived) in zip(rows, along, strict=True):
            for direction, one, other in zip(members, asked, arrived, strict=True):
                shifts.append(Shift(direction.head, one, other))
    return [tuple(shifts) for shifts in rows]


def through_o_proj(lens: Lens, direction: Direction) -> Float[Tensor, "d_model"]:
    """One standard deviation along a direction, as the layer's `o_proj` writes it; float32 on the CPU."""
    heads = torch.zeros(lens.grid.n_heads, lens.grid.d_head)
    heads[direction.head.index] = direction.push(1.0).float().cpu()
    weight = o_proj(lens, direction.head.layer).weight.detach().float().cpu()
    return torch.nn.functional.linear(heads.flatten(), weight)


def _difference(
    lens: Lens, layer: int, requested: Float[Tensor, "batch d_model"], seen: Sequence[Tensor]
) -> Float[Tensor, "batch d_model"]:
    """What the push changed at the last position; it must be what was asked, to the number format's rounding."""
    if len(seen) != 2:
        raise ShiftMissed(
            _sentence(lens, layer, f"`o_proj` ran {len(seen) // 2} times in the first step instead of once")
        )
    before, after = (output[:, -1].float().cpu() for output in seen)
    measured = after - before
    rounding = torch.finfo(lens.dtype).eps * (before.abs() + 2 * requested.abs()) + 1e-6 * requested.norm(
        dim=-1, keepdim=True
    )
    miss = (measured - requested).abs() - rounding
    if bool((miss > 0).any()):
        row = int(miss.amax(dim=-1).argmax())
        asked, arrived = requested[row].norm().item(), measured[row].norm().item()
        raise ShiftMissed(_sentence(lens, layer, f"a shift of length {asked:.4g} was asked and {arrived:.4g} arrived"))
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
