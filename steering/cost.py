"""What steering costs: how much worse the model predicts ordinary text, and how far its predictions move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens import Lens
from probes.direction import Direction
from probes.estimate import Estimate, bootstrap_mean
from steering.steerer import biased, checked_sigmas, pushes

WINDOW = 128
"""Tokens read at once, as in the ITI code's cost measure (Li et al. 2023)."""
LOGITS_AT_ONCE = 16_000_000
"""Numbers held per pass, 64 MB in float32: how many windows go together."""


@dataclass(frozen=True)
class Cost:
    """The price of one strength on one text, every position steered."""

    sigmas: float
    cross_entropy: Estimate
    """Nats per token of the steered model; bootstrap over windows, n = windows."""
    plain: Estimate
    """The same without steering."""
    increase: Estimate
    """Steered minus plain, window by window."""
    kl: Estimate
    """KL(plain ‖ steered), nats per token: how far the predictions moved, whoever was right."""
    n_tokens: int
    """Predicted tokens: all but the first of each window."""

    def __str__(self) -> str:
        return f"{self.sigmas:g} sigmas: {self.cross_entropy} nats per token ({self.plain} plain), KL {self.kl}"


def cost(
    lens: Lens,
    directions: Sequence[Direction],
    sigmas: Sequence[float],
    text: str,
    positions: str = "all",
    window: int = WINDOW,
    rng: np.random.Generator | None = None,
) -> list[Cost]:
    """Cross-entropy and KL at every position of a text, one result per strength.

    Steering only the last position would change predictions that no one scores, so `positions="last"` is refused.
    """
    if positions != "all":
        raise ValueError(
            f"Cost is measured with every position steered; got positions={positions!r}, whose only steered position "
            'predicts beyond the text, so that every strength would cost nothing. Use positions="all".'
        )
    windows = _windows(lens, text, window)
    strengths = checked_sigmas(list(sigmas)).tolist()
    measured = [_measure(lens, directions, strengths, batch) for batch in _batches(lens, windows)]
    plain, steered, kl = (torch.cat(parts, dim=-1).double().numpy() for parts in zip(*measured, strict=True))
    n_tokens = windows.shape[0] * (windows.shape[1] - 1)

    def mean(values: np.ndarray) -> Estimate:
        return bootstrap_mean(values, rng or np.random.default_rng(0))

    return [
        Cost(strength, mean(loss), mean(plain), mean(loss - plain), mean(moved), n_tokens)
        for strength, loss, moved in zip(strengths, steered, kl, strict=True)
    ]


def _windows(lens: Lens, text: str, window: int) -> Int[Tensor, "window pos"]:
    """The text's tokens in pieces of equal length, each read from its own start; a shorter rest is left out."""
    if not 2 <= window <= lens.n_context:
        raise ValueError(f"window is a number of tokens from 2 to the model's {lens.n_context}; got {window}.")
    tokens = lens.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    window = min(window, len(tokens))
    if window < 2:
        raise ValueError(f"The text has {len(tokens)} tokens; cost needs at least 2, one to read and one to predict.")
    n = len(tokens) // window
    return torch.tensor(tokens[: n * window]).reshape(n, window)


def _batches(lens: Lens, windows: Int[Tensor, "window pos"]) -> Iterator[Int[Tensor, "batch pos"]]:
    at_once = max(1, LOGITS_AT_ONCE // (windows.shape[1] * lens.n_vocab))
    return (batch.to(lens.device) for batch in windows.split(at_once))


def _measure(
    lens: Lens, directions: Sequence[Direction], strengths: Sequence[float], tokens: Int[Tensor, "batch pos"]
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "sigmas batch"], Float[Tensor, "sigmas batch"]]:
    """Mean per window of the plain cross-entropy, each strength's cross-entropy and its KL."""
    plain = lens.plain_logits(tokens)[:, :-1].float().log_softmax(dim=-1)
    following = tokens[:, 1:, None]
    losses, divergences = [], []
    for strength in strengths:
        with biased(lens, pushes(lens, directions, strength), "all"):
            steered = lens.plain_logits(tokens)[:, :-1].float().log_softmax(dim=-1)
        losses.append(-steered.gather(-1, following).squeeze(-1).mean(dim=1))
        divergences.append((plain.exp() * (plain - steered)).sum(dim=-1).mean(dim=1))
    plain_loss = -plain.gather(-1, following).squeeze(-1).mean(dim=1)
    return plain_loss.cpu(), torch.stack(losses).cpu(), torch.stack(divergences).cpu()
