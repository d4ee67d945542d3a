"""Edit a model while it runs: two roads to one number.

The reference road edits what each head puts out, and the residual stream, through the TransformerBridge, with every
change written as a full matrix. The fast road adds what the edits become: behind `o_proj` for heads, which is exact
because `o_proj` is linear (Li et al. 2023, arXiv 2306.03341, section 3), and behind the layer for the residual stream.
All pushes of a place together are one vector per row. The two share no arithmetic, so that each tests the other.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import linear

from lens import Lens
from steering.dose import Dose, Doses, Steering
from steering.edit import Edit, Site
from steering.plan import checked_positions


class WrongModel(ValueError):
    """A steering that was fitted to another checkpoint."""


@dataclass(eq=False)
class Amount:
    """One edit that depends on the activations, with each row's strength."""

    edit: Edit
    strengths: Float[Tensor, "row 1 1"]
    opens: Bool[Tensor, "row pos"] | None = None
    """Which tokens of the last pass its gate let through."""

    def __call__(self, x: Float[Tensor, "row pos d"]) -> Float[Tensor, "row pos d"]:
        """What to add to an activation, in float32."""
        change = self.strengths * self.edit.change(x.float())
        if self.edit.gate is None:
            return change
        self.opens = self.edit.gate.opens(x)
        return torch.where(self.opens[..., None], change, 0.0)

    def of(self, rows: Int[Tensor, " kept"]) -> Amount:
        return Amount(self.edit, self.strengths[rows])


@dataclass(eq=False)
class Place:
    """All that is added at one site, for the rows of one batch."""

    site: Site
    push: Float[Tensor, "row 1 d_model"] | None
    """The sum of the edits that are the same whatever the model computes, as it reaches the residual stream."""
    amounts: list[Amount]
    """The other edits."""
    W_O: Float[Tensor, "d_model heads_d_head"] | None
    """How heads reach the residual stream; None where the edits are made in it."""

    def added(
        self, x: Float[Tensor, "row pos d"], out: Float[Tensor, "row pos d_model"]
    ) -> Float[Tensor, "row pos d_model"]:
        """`out` with the edits; `x` is what they read: what enters `o_proj`, or the stream itself."""
        if self.push is not None:
            out = out + self.push
        if self.amounts:
            change = torch.stack([amount(x) for amount in self.amounts]).sum(dim=0).to(out.dtype)
            out = out + (change if self.W_O is None else linear(change, self.W_O))
        return out

    def of(self, rows: Int[Tensor, " kept"]) -> Place:
        push = None if self.push is None else self.push[rows]
        return Place(self.site, push, [amount.of(rows) for amount in self.amounts], self.W_O)


class Shifts:
    """What is added for the rows of one batch, place by place."""

    def __init__(self, lens: Lens, rows: Sequence[Doses]) -> None:
        pushes: dict[Site, Tensor] = {}
        amounts: dict[Site, list[Amount]] = {}
        for steering, strengths in strengths_of(lens, rows):
            for site, edits in by_site(steering.edits).items():
                if constants := [edit.change.constant for edit in edits if edit.is_push]:
                    push = strengths[:, None, None] * _written(lens, site, torch.stack(constants).sum(dim=0))
                    pushes[site] = pushes.get(site, 0) + push
                for edit in edits:
                    if not edit.is_push:
                        amount = Amount(edit.to(lens.device), strengths[:, None, None])
                        amounts.setdefault(site, []).append(amount)
        self.places: dict[Site, Place] = {}
        """In the order of the forward pass."""
        for site in sorted({*pushes, *amounts}):
            whole = pushes[site].to(lens.dtype) if site in pushes else None
            W_O = lens.output_projection(site.layer).weight if site.where == "heads" else None
            self.places[site] = Place(site, whole, amounts.get(site, []), W_O)
        self._n_layers = lens.grid.n_layers
        self._line_up()

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only."""
        self.places = {site: place.of(rows) for site, place in self.places.items()}
        self._line_up()

    def _line_up(self) -> None:
        self.layers = [
            (self.places.get(Site(layer, "heads")), self.places.get(Site(layer, "residual")))
            for layer in range(self._n_layers)
        ]
        """Of each layer: what is added behind `o_proj`, and after the layer."""

    @property
    def gates(self) -> list[Amount]:
        """The edits that a gate decides on."""
        return [amount for place in self.places.values() for amount in place.amounts if amount.edit.gate]


def _written(lens: Lens, site: Site, constant: Float[Tensor, " d"]) -> Float[Tensor, " d_model"]:
    """One unit of strength, as it reaches the residual stream."""
    here = constant.to(lens.device)
    return here if site.where == "residual" else linear(here, lens.output_projection(site.layer).weight.float())


def strengths_of(lens: Lens, rows: Sequence[Doses]) -> list[tuple[Steering, Float[Tensor, " row"]]]:
    """Every steering that a row has at a strength other than 0, and each row's strength; doses of one add up."""
    found: dict[int, tuple[Steering, list[float]]] = {}
    for doses in set(rows):
        check_sums(doses)
    for row, doses in enumerate(rows):
        for dose in doses:
            steering = dose.steering
            if id(steering) not in found:
                check_fits(lens, steering)
                found[id(steering)] = steering, [0.0] * len(rows)
            found[id(steering)][1][row] += dose.strength
    return [(one, torch.tensor(strengths, device=lens.device)) for one, strengths in found.values() if any(strengths)]


def check_sums(doses: Doses) -> None:
    """Strengths that add up stay within their method's limit, also those of a plan that was fitted twice.

    They add up where plans of one method act along one kind of direction, from one probe set, on one head or layer;
    what a gate or a position rule leaves out is counted, since it may act.
    """
    together: dict[tuple[str, tuple[object, ...]], list[Dose]] = defaultdict(list)
    for dose in doses:
        plan = dose.steering.plan
        along = plan.method, plan.probes, plan.kind, plan.seed if plan.kind == "random" else None
        for name in {edit.name for edit in dose.steering.edits} or {"the prompt"}:
            together[name, along].append(dose)
    for (name, _), ones in together.items():
        try:
            ones[0].steering.plan.checked(math.fsum(dose.strength for dose in ones))
        except ValueError as error:
            added = f" The strengths of {len(ones)} plans add up at {name}." if len(ones) > 1 else ""
            raise ValueError(f"{error}{added}") from error


def by_site(edits: Sequence[Edit]) -> dict[Site, list[Edit]]:
    """Edits of each place, in the order of the forward pass."""
    found: dict[Site, list[Edit]] = {}
    for edit in sorted(edits, key=lambda edit: edit.site):
        found.setdefault(edit.site, []).append(edit)
    return found


@contextmanager
def hooked(lens: Lens, shifts: Shifts, positions: str) -> Iterator[None]:
    """Inside the `with`, the plain Hugging Face model is edited, at the last position of each pass or at all."""
    begin = _first(positions)

    def hook_of(place: Place) -> Callable[[Any, Any, Tensor], Tensor]:
        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = output if place.W_O is None else inputs[0]
            edited = place.added(x[:, begin:], output[:, begin:])
            return edited if edited.shape == output.shape else torch.cat([output[:, :begin], edited], dim=1)

        return hook

    with ExitStack() as undo:
        for site, place in shifts.places.items():
            module = lens.output_projection(site.layer) if site.where == "heads" else lens.layer(site.layer)
            undo.callback(module.register_forward_hook(hook_of(place)).remove)
        yield


@contextmanager
def steered(lens: Lens, rows: Sequence[Doses], positions: str) -> Iterator[None]:
    """Inside the `with`, `lens.logits` is edited: the reference road, a matrix for each edit, and slow."""
    begin = _first(positions)
    edits: dict[Site, list[tuple[Edit, Tensor]]] = {}
    for steering, strengths in strengths_of(lens, rows):
        for edit in steering.edits:
            edits.setdefault(edit.site, []).append((edit, strengths))
    with ExitStack() as undo:
        for site, ones in edits.items():
            place = lens.on_heads if site.where == "heads" else lens.on_residual
            undo.enter_context(place(site.layer, partial(_by_matrices, edits=ones, begin=begin)))
        yield


def _first(positions: str) -> int:
    """The first position of a pass that is edited."""
    return {"last": -1, "all": 0}[checked_positions(positions)]


def _by_matrices(
    x: Float[Tensor, "row pos *d"], edits: Sequence[tuple[Edit, Float[Tensor, " row"]]], begin: int
) -> Tensor:
    """x + sum of strength · gate · (M x + c), one dense M for each edit."""
    flat = x.flatten(2).float()
    change = torch.zeros_like(flat)
    for edit, strengths in edits:
        one = torch.einsum("rpd,ed->rpe", flat, matrix(edit).to(x.device)) + edit.change.constant.to(x.device)
        if edit.gate is not None:
            logit = torch.einsum("rpd,d->rp", flat, edit.gate.weight.to(x.device)) + edit.gate.bias
            one = one * (1 / (1 + torch.exp(-logit)) > edit.gate.threshold)[..., None]
        change += strengths[:, None, None] * one
    if begin:
        change[:, :begin] = 0
    return (flat + change).to(x.dtype).view_as(x)


def matrix(edit: Edit) -> Float[Tensor, "d d"]:
    """The linear part of an edit's change."""
    change = edit.change
    found = torch.zeros(len(change.constant), len(change.constant))
    if change.scale is not None:
        found += torch.diag(change.scale)
    if change.left is not None and change.right is not None:
        found += change.left @ change.right
    return found


def check_fits(lens: Lens, steering: Steering) -> None:
    """A steering acts on the weights that it was fitted to and on no others."""
    if steering.fingerprint != lens.fingerprint:
        raise WrongModel(
            f"This steering ({steering.plan}) was fitted to the weights {steering.fingerprint[:12]}, and "
            f"{lens.checkpoint.name} has {lens.fingerprint[:12]}. Fit it to this checkpoint."
        )
    widths = {"heads": lens.grid.n_heads * lens.grid.d_head, "residual": lens.d_model}
    for edit in steering.edits:
        width, found = widths[edit.site.where], len(edit.change.constant)
        if edit.site.layer not in range(lens.grid.n_layers) or found != width:
            raise WrongModel(
                f"The edit of {edit.name} ({found} wide) does not fit {lens.checkpoint.name}: it has "
                f"{lens.grid.n_layers} layers, {width} wide there. Fit the plan to this checkpoint."
            )
