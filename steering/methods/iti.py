"""Inference-time intervention: push the outputs of the heads that read the concept best.

z ← z + sigmas · sigma · unit, before `o_proj`, with the unit vector from the toxic to the benign texts and the standard
deviation of all texts along it (Li et al. 2023, arXiv 2306.03341, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from probes.direction import Direction, direction, spread
from probes.probe import ProbeSet
from steering.edit import Affine, Edit, Site, padded
from steering.methods.table import Method, Slider
from steering.plan import Plan


def directions(plan: Plan, probes: ProbeSet, sigmas_of: ProbeSet | None = None) -> list[Direction]:
    """The directions of the plan's heads, best first; their sigma may be measured on another set of texts."""
    found = [direction(probes, head, plan.kind, plan.seed) for head in plan.chosen_heads(probes)]
    if sigmas_of is None:
        return found
    covariance = sigmas_of.heads.covariance
    return [replace(d, sigma=spread(covariance[d.head.layer, d.head.index], d.unit)) for d in found]


def edits(directions: Sequence[Direction], n_heads: int) -> tuple[Edit, ...]:
    """A push of one standard deviation for each direction; `n_heads`: heads in a layer."""
    return tuple(
        Edit(str(d.head), Site(d.head.layer, "heads"), Affine(padded(d.push(1.0), d.head.index, n_heads)))
        for d in directions
    )


def plan_edits(plan: Plan, probes: ProbeSet, sigmas_of: ProbeSet | None) -> tuple[Edit, ...]:
    """The plan's heads, each with its shift."""
    return edits(directions(plan, probes, sigmas_of), probes.grid.n_heads)


ITI = Method(
    "iti",
    "ITI",
    summary="shift the best heads",
    unit="standard deviations",
    most=100,
    slider=Slider(
        "Strength, in standard deviations",
        16,
        0.5,
        8,
        ((0, "off"), (4, "weak"), (8, "medium"), (12, "strong"), (16, "most")),
    ),
    phrase=lambda strength, to: f"{strength:g} σ {to}",
    edits=plan_edits,
    where=("heads",),
    strengths=(0.0, 4.0, 8.0, 12.0),
    signed=True,
    along=True,
    own_sigma=True,
)
