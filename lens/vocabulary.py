"""From a direction to words: the tokens whose unembedding rows point its way, with random directions beside them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from lens.head import Head
from lens.model import Lens
from lens.numeric import whole_number


@dataclass(frozen=True)
class NearToken:
    """A token of the vocabulary and how closely its row of W_U follows a direction."""

    id: int
    text: str
    """As it is written in a text, so usually with its leading space."""
    cosine: float


def nearest_tokens(lens: Lens, direction: Float[Tensor, " d_model"], n: int = 50) -> list[NearToken]:
    """The n tokens nearest to a direction of the residual stream by cosine, nearest first."""
    return _nearest(lens, direction[None], n)[0]


def random_nearest(lens: Lens, n: int = 50, seed: int = 0, draws: int = 20) -> list[list[NearToken]]:
    """The same lists for random directions: what would be found where there is nothing to find."""
    random = torch.randn(draws, lens.d_model, generator=torch.Generator().manual_seed(seed))
    return _nearest(lens, random, n)


def head_to_residual(lens: Lens, head: Head, unit: Float[Tensor, " d_head"]) -> Float[Tensor, " d_model"]:
    """Where the final norm sends a head's direction: W_O, then centred and scaled as OLMo's norm does.

    W_O and the centring are exact and linear. The norm divides by a length that differs from text to text, which
    no cosine sees. Left out is what also differs from text to text: the part along the residual stream of the moment,
    which the norm removes, and what later layers make of the direction.
    """
    if head not in lens.grid:
        raise ValueError(f"{lens.checkpoint.name} has {lens.grid.n_layers} x {lens.grid.n_heads} heads; not {head}.")
    written = unit.to(lens.device, torch.float32) @ lens.W_O(head.layer)[head.index].float()
    return lens.final_norm(written).cpu()


@torch.no_grad()
def cosines(lens: Lens, directions: Float[Tensor, "direction d_model"]) -> Float[Tensor, "direction vocab"]:
    """Cosine of each direction with every row of W_U, -inf at rows of no token. Float32, on the CPU."""
    lens.check_weights()
    lengths = directions.norm(dim=-1)
    if not (lengths.isfinite() & (lengths > 0)).all():
        raise ValueError("A direction of length zero or with values that are not numbers is near to no token.")
    units = normalize(directions.to(lens.device, torch.float32), dim=-1)
    # in pieces: a float32 copy of a 1B model's whole matrix would take 400 MB
    pieces = [units @ normalize(rows.float(), dim=-1).T for rows in lens.W_U.split(8192)]
    return torch.cat(pieces, dim=-1).cpu().masked_fill(~lens.real_tokens, -torch.inf)


def _nearest(lens: Lens, directions: Float[Tensor, "direction d_model"], n: int) -> list[list[NearToken]]:
    best = cosines(lens, directions).topk(min(whole_number("n", n, 1), int(lens.real_tokens.sum())), dim=-1)
    return [
        [NearToken(id, lens.decode([id]), cosine) for id, cosine in zip(ids, values, strict=True)]
        for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
