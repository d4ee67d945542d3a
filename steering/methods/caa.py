"""Contrastive activation addition: push the residual stream along the mean difference of two classes.

x ← x + strength · (mean benign − mean toxic) after a layer (Rimsky et al. 2023, arXiv 2312.06681, section 3). The other
kinds of direction get the same length, so that a control differs in its direction alone.
"""

from __future__ import annotations

from probes.direction import layer_direction
from probes.probe import ProbeSet
from steering.edit import Affine, Edit, Site
from steering.methods.table import Method, Slider
from steering.plan import Plan


def edits(plan: Plan, probes: ProbeSet, sigmas_of: ProbeSet | None = None) -> tuple[Edit, ...]:
    """A push of one mean difference after each of the plan's layers."""
    difference = probes.residual.mean_benign - probes.residual.mean_toxic
    return tuple(
        Edit(
            f"L{layer}",
            Site(layer, "residual"),
            Affine(difference[layer].norm() * layer_direction(probes, layer, plan.kind, plan.seed)),
        )
        for layer in plan.chosen_layers(probes)
    )


CAA = Method(
    "caa",
    "CAA",
    summary="shift the residual stream",
    unit="mean differences",
    most=100,
    slider=Slider(
        "Strength, in mean differences",
        4,
        0.1,
        1,
        ((0, "off"), (1, "weak"), (2, "medium"), (3, "strong"), (4, "most")),
    ),
    phrase=lambda strength, to: f"{strength:g} mean difference{'s' * (strength != 1)} {to}",
    edits=edits,
    where=("residual",),
    strengths=(0.0, 1.0, 2.0),
    signed=True,
    along=True,
    layers="best",
)
