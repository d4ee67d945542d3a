"""How probable a model finds given words behind given words, plain and steered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens import Lens, positions
from steering import Doses, Shifts, hooked

if TYPE_CHECKING:
    from transformers import DynamicCache


class Line(NamedTuple):
    """Tokens to be judged, behind the tokens that they continue."""

    context: tuple[int, ...]
    """At least one."""
    continuation: tuple[int, ...]
    doses: Doses = ()

    @property
    def beginning(self) -> tuple[int, ...]:
        """The context but for its last token: what is read before anything is predicted."""
        return self.context[:-1]

    @property
    def doses_before(self) -> Doses:
        """The doses that edit the beginning too."""
        return tuple(dose for dose in self.doses if dose.everywhere)


@torch.inference_mode()
def log_likelihoods(lens: Lens, lines: Sequence[Line]) -> Float[Tensor, " line"]:
    """Sum over the tokens of each continuation of log p, in nats, given all that stands before.

    Edits act where they act in generation: from the last token of the context on, or everywhere where the plan says so.
    A beginning that several lines share is read once.
    """
    lens.check_weights()
    beginnings: dict[object, Line] = {}
    names = [(line.beginning, tuple((id(d.steering), d.strength) for d in line.doses_before)) for line in lines]
    for name, line in zip(names, lines, strict=True):
        beginnings.setdefault(name, line)
    place = {name: number for number, name in enumerate(beginnings)}
    of = torch.tensor([place[name] for name in names], device=lens.device)
    cache, read = _read(lens, list(beginnings.values()))
    if cache is not None:
        cache.batch_select_indices(of)
    read = read[of]
    tokens, real = _padded_behind(lens, [(line.context[-1], *line.continuation) for line in lines])
    steps = torch.arange(tokens.shape[1] - 1, device=lens.device)
    with hooked(lens, Shifts(lens, [line.doses for line in lines]), "all"):
        logits = lens.model(
            tokens[:, :-1],
            attention_mask=torch.cat([read, real[:, :-1]], dim=1),
            position_ids=read.sum(dim=1, keepdim=True) + steps,
            past_key_values=cache,
            use_cache=cache is not None,
        ).logits.float()
    chosen = logits.gather(-1, tokens[:, 1:, None]).squeeze(-1) - logits.logsumexp(dim=-1)
    return torch.where(real[:, 1:] == 1, chosen, 0.0).sum(dim=1).cpu()


def _read(lens: Lens, lines: Sequence[Line]) -> tuple[DynamicCache | None, Int[Tensor, "line pos"]]:
    """Keys and values of each line's beginning, and the mask of its tokens; padded on the left."""
    tokens, mask = lens.pad([line.beginning for line in lines])
    if not tokens.shape[1]:
        return None, mask
    with hooked(lens, Shifts(lens, [line.doses_before for line in lines]), "all"):
        body = lens.model.get_submodule(lens.architecture.body)
        found = body(tokens, attention_mask=mask, position_ids=positions(tokens, mask), use_cache=True)
    return found.past_key_values, mask


def _padded_behind(lens: Lens, rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "row pos"], Int[Tensor, "row pos"]]:
    """Rows of different lengths as one batch, padded on the right, and its mask."""
    length = max(map(len, rows))
    tokens = torch.tensor([[*row, *[lens.eos] * (length - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return tokens.to(lens.device), mask.to(lens.device)
