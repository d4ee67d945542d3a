"""Erasing: take out of the activations what tells the two classes apart.

Ablation takes one direction out: x ← x - strength · u uᵀ x (Arditi et al. 2024, arXiv 2406.11717, section 2.4). LEACE
takes out all that a linear probe can read, and as little else as possible: x ← x - strength · P (x - mean), where
I - P is the oblique projection under which the classes have one mean (Belrose et al. 2023, arXiv 2306.03819).
"""

from __future__ import annotations

import torch
from concept_erasure import LeaceFitter
from jaxtyping import Bool, Float
from torch import Tensor

from probes.probe import ProbeSet
from steering.edit import Affine, Edit
from steering.methods.table import SHARE_SLIDER, SHARE_UNIT, Method, percent_phrase
from steering.methods.units import direction_of, units_of
from steering.plan import Plan

NOTHING = 1e-12
"""A whitened difference of the classes below this is rounding; the library's 0.01 would leave weak concepts in."""


def ablations(plan: Plan, probes: ProbeSet, sigmas_of: ProbeSet | None = None) -> tuple[Edit, ...]:
    """The direction of each of the plan's heads or layers, taken out there."""
    units = units_of(plan, probes)
    return tuple(unit.edit(ablation(direction_of(unit, plan, probes))) for unit in units)


def ablation(direction: Float[Tensor, " d"]) -> Affine:
    """Minus what an activation has along a unit vector."""
    return Affine(torch.zeros_like(direction), left=-direction[:, None], right=direction[None])


def leace(x: Float[Tensor, "text d"], labels: Bool[Tensor, " text"]) -> Affine:
    """Minus what a linear probe could read of the class, in float64.

    With any full covariance the classes' means meet exactly, so the guarantee on these texts holds under shrinkage
    too. Without it, few texts in many dimensions give directions of hardly any variance so much weight that other
    positions and other texts would be thrown far. The library's bound on the trace never binds for two classes.
    """
    fitter = LeaceFitter.fit(x, labels.to(x), shrinkage=True, constrain_cov_trace=False, svd_tol=NOTHING)
    eraser = fitter.eraser
    left, right = eraser.proj_left, eraser.proj_right
    return Affine(left @ (right @ fitter.mean_x), left=-left, right=right)


ABLATION = Method(
    "ablate",
    "Ablation",
    summary="take a direction out",
    unit=SHARE_UNIT,
    most=1,
    slider=SHARE_SLIDER,
    phrase=percent_phrase("a direction taken out"),
    edits=ablations,
    where=("residual", "heads"),
    along=True,
)
LEACE = Method(
    "leace",
    "LEACE",
    summary="take out all that a linear probe reads",
    unit=SHARE_UNIT,
    most=1,
    slider=SHARE_SLIDER,
    phrase=percent_phrase("the concept taken out"),
    fitter=leace,
    where=("residual", "heads"),
)
