"""Activation transport: carry each unit's activations over to where they are in texts of the other class.

x ← x + strength · ((ω - 1) ∘ x + β), with ω and β of each unit by least squares between the sorted activations of the
two classes (Linear-AcT, Rodriguez et al. 2024, arXiv 2410.23054, section 3); ω = 1 leaves the difference of the means
(Mean-AcT). A strength of 1 carries all the way.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steering.edit import Affine
from steering.methods.table import SHARE_SLIDER, SHARE_UNIT, Method, percent_phrase

ROUNDING = 1e-6
"""Share of a unit's largest value within which float32 activations that never change still differ."""


def linear_act(x: Float[Tensor, "text d"], labels: Bool[Tensor, " text"]) -> Affine:
    """The least-squares map from the positive class to the other one, unit by unit; x in float64."""
    source, target, weight = _coupled(x[labels], x[~labels])
    mean, goal = weight @ source, weight @ target
    variance = weight @ (source - mean) ** 2
    moves = _moves(x, labels)
    omega = torch.where(moves, weight @ ((source - mean) * (target - goal)) / variance.where(moves, 1.0), 1.0)
    return Affine(torch.where(moves, goal - omega * mean, 0.0), scale=omega - 1)


def mean_act(x: Float[Tensor, "text d"], labels: Bool[Tensor, " text"]) -> Affine:
    """The same with ω = 1: a push by the difference of the means."""
    return Affine(torch.where(_moves(x, labels), x[~labels].mean(0) - x[labels].mean(0), 0.0))


def _coupled(
    a: Float[Tensor, "text_a d"], b: Float[Tensor, "text_b d"]
) -> tuple[Float[Tensor, "pair d"], Float[Tensor, "pair d"], Float[Tensor, " pair"]]:
    """Optimal transport in one dimension: sorted activations side by side, with the share of texts in each pair.

    Where one class has more texts, each step of either quantile function is split where the other one's steps end, so
    that nothing is interpolated or left out.
    """
    n_a, n_b = len(a), len(b)
    ends = torch.cat([torch.arange(n_a + 1) * n_b, torch.arange(n_b + 1) * n_a]).unique()  # in 1 / (n_a · n_b)
    starts = ends[:-1]
    shares = ends.diff().to(a) / (n_a * n_b)
    return a.sort(dim=0).values[starts // n_b], b.sort(dim=0).values[starts // n_a], shares


def _moves(x: Float[Tensor, "text d"], labels: Bool[Tensor, " text"]) -> Bool[Tensor, " d"]:
    """Units that vary in both classes; of the others nothing can be learnt, and they are left alone."""
    least = ROUNDING * x.abs().amax(dim=0)
    return (x[labels].std(dim=0, correction=0) > least) & (x[~labels].std(dim=0, correction=0) > least)


LINEAR_ACT = Method(
    "act",
    "Linear-AcT",
    summary="shift and stretch activations",
    unit=SHARE_UNIT,
    most=1,
    slider=SHARE_SLIDER,
    phrase=percent_phrase("the way {to}"),
    fitter=linear_act,
    where=("residual", "heads"),
)

MEAN_ACT = Method(
    "mean-act",
    "Mean-AcT",
    summary="shift activations",
    unit=SHARE_UNIT,
    most=1,
    slider=SHARE_SLIDER,
    phrase=percent_phrase("the way {to}"),
    fitter=mean_act,
    where=("residual", "heads"),
)
