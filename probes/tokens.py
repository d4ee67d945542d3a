"""What a direction spells: the tokens nearest to its toxic end, and whether a list of toxic words is among them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lens.head import Head
from lens.model import Lens
from lens.vocabulary import NearToken, cosines, head_to_residual, nearest_tokens
from probes.differences import middle_95
from probes.direction import Kind, direction, layer_direction
from probes.estimate import Estimate
from probes.lexicon import Lexicon
from probes.probe import ProbeSet
from probes.ranks import auc


@dataclass(frozen=True)
class Spread:
    """What random directions give: their mean, and the middle 95 % of them."""

    mean: float
    low: float
    high: float
    draws: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(float(np.mean(values)), *middle_95(np.asarray(values)), len(values))

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] over {self.draws} random directions"


@dataclass(frozen=True)
class ToxicEnd:
    """The tokens at the toxic end of one direction, counted with a lexicon."""

    place: str
    """"layer 4" or "L3H7"."""
    kind: str
    nearest: tuple[NearToken, ...]
    """By cosine with the rows of W_U, nearest first."""
    listed: tuple[bool, ...]
    """Which of them are words of the lexicon."""
    random_listed: Spread
    """How many of as many nearest tokens are, for random directions."""
    rank_auc: Estimate | None
    """How often a lexicon token lies nearer to the toxic end than another token; 0.5 is chance. None where the
    vocabulary holds no lexicon word whole. Its interval takes tokens as independent: compare it with `random_auc`."""
    random_auc: Spread | None
    lexicon_words: int
    single_tokens: int
    """Words of the lexicon that are one token of this vocabulary; the others are pieces and cannot be counted."""

    @property
    def n_listed(self) -> int:
        return sum(self.listed)


def layer_tokens(
    lens: Lens,
    probes: ProbeSet,
    lexicon: Lexicon,
    layer: int | None = None,
    kind: Kind = "probe-weight",
    n: int = 50,
    draws: int = 100,
    seed: int = 0,
) -> ToxicEnd:
    """The toxic end of the residual stream's direction after a layer, the best one unless told, as in the paper."""
    where = probes.best_layer if layer is None else layer
    end = -layer_direction(probes, where, kind)
    random = torch.randn(draws, lens.d_model, generator=torch.Generator().manual_seed(seed))
    return toxic_end(lens, lexicon, f"layer {where}", kind, end, random, n)


def head_tokens(
    lens: Lens,
    probes: ProbeSet,
    lexicon: Lexicon,
    head: Head,
    kind: Kind = "mass-mean",
    n: int = 50,
    draws: int = 100,
    seed: int = 0,
) -> ToxicEnd:
    """The toxic end of one head's direction, through W_O and the final norm; random directions take the same way."""
    through = partial(head_to_residual, lens, head)
    end = through(-direction(probes, head, kind).unit)
    units = torch.randn(draws, lens.grid.d_head, generator=torch.Generator().manual_seed(seed))
    return toxic_end(lens, lexicon, str(head), kind, end, torch.stack([through(unit) for unit in units]), n)


def toxic_end(
    lens: Lens,
    lexicon: Lexicon,
    place: str,
    kind: str,
    end: Float[Tensor, " d_model"],
    random: Float[Tensor, "draw d_model"],
    n: int,
) -> ToxicEnd:
    """Count and rank the lexicon's tokens along one direction and along random ones."""
    words = single_tokens(lens, lexicon)
    listed = torch.zeros(lens.n_vocab, dtype=torch.bool)
    listed[[id for ids in words.values() for id in ids]] = True
    near, real = tuple(nearest_tokens(lens, end, n)), lens.real_tokens.cpu()
    chance = cosines(lens, random)
    counts = listed[chance.topk(len(near), dim=-1).indices].sum(-1)
    ranked = bool(listed.any())
    return ToxicEnd(
        place=place,
        kind=kind,
        nearest=near,
        listed=tuple(bool(listed[token.id]) for token in near),
        random_listed=Spread.of(counts.tolist()),
        rank_auc=rank_auc(cosines(lens, end[None])[0], listed, real) if ranked else None,
        random_auc=Spread.of([rank_auc(row, listed, real).value for row in chance]) if ranked else None,
        lexicon_words=len(lexicon),
        single_tokens=len(words),
    )


def rank_auc(cosine: Float[Tensor, " vocab"], listed: Bool[Tensor, " vocab"], real: Bool[Tensor, " vocab"]) -> Estimate:
    """How well the cosine tells the lexicon's tokens from the others; rows of no token left out."""
    return auc(cosine[real].numpy(), listed[real].numpy())


def single_tokens(lens: Lens, lexicon: Lexicon) -> dict[str, list[int]]:
    """The lexicon's words that are one token, in lower case, each with its tokens: " word" and "Word" are one word."""
    found: dict[str, list[int]] = {}
    for id in lens.real_tokens.nonzero()[:, 0].tolist():
        word = lens.decode([id]).strip().lower()
        if word and word in lexicon:
            found.setdefault(word, []).append(id)
    return found
