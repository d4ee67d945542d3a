"""Which way a head moves when text turns from toxic to benign, and how far one standard deviation is."""

from dataclasses import dataclass
from hashlib import blake2b
from math import sqrt
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens.head import Head
from lens.numeric import as_int
from probes.fits import Fits
from probes.probe import ProbeSet

Kind = Literal["mass-mean", "probe-weight", "random"]


@dataclass(frozen=True, eq=False)
class Direction:
    """Where one head moves when text turns from toxic to benign: positive strengths detoxify."""

    head: Head
    unit: Float[Tensor, " d_head"]
    """Unit length."""
    sigma: float
    """Standard deviation of the probe set along `unit`, both classes pooled (ddof 0)."""

    def push(self, sigmas: float) -> Float[Tensor, " d_head"]:
        """What to add to the head's output for a strength of so many standard deviations."""
        return sigmas * self.sigma * self.unit


def direction(probes: ProbeSet, head: Head, kind: Kind = "mass-mean", seed: int = 0) -> Direction:
    """A head's direction.

    "mass-mean": mean benign - mean toxic, over all texts of the set, as in ITI (Li et al. 2023); "probe-weight": minus
    the weight of its probe; "random": a control of no meaning, which depends on the seed and the head's name alone.
    """
    if head not in probes.grid:
        raise ValueError(f"{probes.checkpoint} has {probes.grid.n_layers} x {probes.grid.n_heads} heads; not {head}.")
    unit = toward_benign(probes.heads, (head.layer, head.index), kind, seed, str(head))
    return Direction(head, unit, spread(probes.heads.covariance[head.layer, head.index], unit))


def layer_direction(
    probes: ProbeSet, layer: int, kind: Kind = "probe-weight", seed: int = 0
) -> Float[Tensor, " d_model"]:
    """The same of the residual stream after a layer, unit length: again from toxic to benign."""
    if not 0 <= layer < probes.grid.n_layers:
        raise ValueError(f"{probes.checkpoint} has layers 0 to {probes.grid.n_layers - 1}; got {layer}.")
    return toward_benign(probes.residual, (layer,), kind, seed, f"layer {layer}")


def toward_benign(fits: Fits, unit: tuple[int, ...], kind: Kind, seed: int, place: str) -> Float[Tensor, " d"]:
    """The unit vector from the positive class to the negative one."""
    if kind == "mass-mean":
        raw = fits.mean_benign[unit].double() - fits.mean_toxic[unit].double()
    elif kind == "probe-weight":
        raw = -fits.weight[unit].double()
    elif kind == "random":
        raw = torch.from_numpy(random_numbers(seed, place).standard_normal(fits.weight.shape[-1]))
    else:
        raise ValueError(f"There is no direction {kind!r}. Choose one of: {', '.join(get_args(Kind))}.")
    length = raw.norm()
    if not length > 0:
        raise ValueError(f"The {kind} direction of {place} has no length: the head says the same about every text.")
    return (raw / length).float()


def random_numbers(seed: int, place: str) -> np.random.Generator:
    """Random numbers of one head or layer, independent of those of every other: its name goes into the seed.

    Lists of numbers as a seed will not do: NumPy fills them with zeros, so that L3H0 and layer 3 would share theirs.
    """
    if (whole := as_int(seed)) is None:
        raise ValueError(f"The seed of random directions is a whole number; got {seed!r}.")
    digest = blake2b(f"{whole} {place}".encode(), digest_size=16, person=b"hormesis random").digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def spread(covariance: Float[Tensor, "d d"], unit: Float[Tensor, " d"]) -> float:
    """Standard deviation along a unit vector."""
    along = unit.double() @ covariance.double() @ unit.double()
    return sqrt(max(0.0, float(along)))
