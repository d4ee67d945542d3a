"""What a method fits one by one: a head's part of what enters `o_proj`, or the residual stream after a layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import pad

from lens import Head
from probes.direction import direction, layer_direction
from probes.probe import ProbeSet
from steering.edit import Affine, Edit, Site
from steering.plan import Plan


@dataclass(frozen=True)
class Unit:
    """A place with a fit of its own."""

    name: str
    """"L3H7" or "L3"."""
    site: Site
    part: slice
    """Of the site's activation."""
    width: int
    """Of the site's activation."""

    def edit(self, change: Affine) -> Edit:
        """A change of this part as one of the whole site, zero elsewhere."""

        def wide(part: Tensor | None) -> Tensor | None:
            return None if part is None else pad(part.float(), (self.part.start, self.width - self.part.stop))

        left = wide(None if change.left is None else change.left.T)
        parts = wide(change.constant), wide(change.scale), None if left is None else left.T, wide(change.right)
        return Edit(self.name, self.site, Affine(*parts))  # type: ignore[arg-type]


def units_of(plan: Plan, probes: ProbeSet) -> list[Unit]:
    """The plan's heads or layers, in the order of the forward pass."""
    if plan.site == "heads":
        return [_of_head(head, probes) for head in sorted(plan.chosen_heads(probes))]
    width = probes.residual.weight.shape[-1]
    return [Unit(f"L{layer}", Site(layer, "residual"), slice(0, width), width) for layer in plan.chosen_layers(probes)]


def direction_of(unit: Unit, plan: Plan, probes: ProbeSet) -> Tensor:
    """The plan's unit vector for a head or layer, from the positive class to the other one."""
    if unit.site.where == "heads":
        return direction(probes, Head.parse(unit.name), plan.kind, plan.seed).unit
    return layer_direction(probes, unit.site.layer, plan.kind, plan.seed)


def _of_head(head: Head, probes: ProbeSet) -> Unit:
    d_head = probes.grid.d_head
    part = slice(head.index * d_head, (head.index + 1) * d_head)
    return Unit(str(head), Site(head.layer, "heads"), part, probes.grid.n_heads * d_head)
