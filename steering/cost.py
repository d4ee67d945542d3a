"""What steering costs: how much worse the model predicts ordinary text, and how far its predictions move."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens import Lens
from lens.numeric import as_int
from probes.differences import estimate_mean
from probes.estimate import Estimate
from steering.dose import Doses
from steering.steerer import Shifts, hooked

PLAIN_TEXT = Path(__file__).parent / "builtin" / "plain.txt"
WINDOW = 128
"""Tokens read at once, as in the ITI code's cost measure (Li et al. 2023)."""
EVERY_POSITION = "every position steered"
"""How costs and calibrations are measured; generation steers the last position of the prompt and what follows."""
LOGITS_AT_ONCE = 16_000_000
"""Numbers held per pass, 64 MB in float32: how many windows go together."""


@dataclass(frozen=True)
class Cost:
    """The price of some doses on one text, every position steered."""

    doses: Doses
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
    bytes_per_token: float
    """UTF-8 bytes that a predicted token of this text stands for, on average."""
    increases: tuple[float, ...]
    """`increase` of each window, so that two models that read the same text can be compared window by window."""
    divergences: tuple[float, ...]
    """`kl` of each window."""

    @property
    def bits_per_byte(self) -> Estimate:
        """Cross-entropy of the steered model in a unit that no tokenizer changes; bytes per token taken as known."""
        return self._per_byte(self.cross_entropy)

    @property
    def plain_bits_per_byte(self) -> Estimate:
        """The same without steering."""
        return self._per_byte(self.plain)

    def _per_byte(self, nats: Estimate) -> Estimate:
        return nats.scaled(1 / (math.log(2) * self.bytes_per_token))

    def __str__(self) -> str:
        asked = "; ".join(f"{dose.steering.plan} at {dose.strength:g}" for dose in self.doses) or "plain"
        return f"{asked}: {self.cross_entropy} nats per token ({self.plain} plain), KL {self.kl}, {EVERY_POSITION}"


def plain_text() -> str:
    """Prose of our own on everyday things, for measuring where no other text is given."""
    return PLAIN_TEXT.read_text(encoding="utf-8")


def cost(
    lens: Lens,
    doses: Sequence[Doses],
    text: str,
    positions: str = "all",
    window: int | None = None,
    rng: np.random.Generator | None = None,
) -> list[Cost]:
    """Cross-entropy and KL at every position of a text, one result for each of `doses`.

    Words that a method puts in front stand in front of every window; only the window's own tokens are scored, the same
    ones with and without. Steering only the last position would change predictions that no one scores, so
    `positions="last"` is refused.
    """
    if positions != "all":
        raise ValueError(
            f"Cost is measured with every position steered; got positions={positions!r}, whose only steered position "
            'predicts beyond the text, so that every strength would cost nothing. Use positions="all".'
        )
    in_front = [words_in_front(lens, one) for one in doses]
    longest = max(map(len, in_front), default=0)
    windows = cut(lens, text, window, longest)
    measured = [_measure(lens, doses, in_front, batch) for batch in batches(lens, windows, longest)]
    plain, steered, kl = (torch.cat(parts, dim=-1).double().numpy() for parts in zip(*measured, strict=True))
    n_tokens = windows[:, 1:].numel()
    bytes_per_token = n_bytes(lens, windows[:, 1:].flatten().tolist()) / n_tokens

    def mean(values: np.ndarray) -> Estimate:
        return estimate_mean(values, rng or np.random.default_rng(0))

    return [
        Cost(
            doses=one,
            cross_entropy=mean(loss),
            plain=mean(plain),
            increase=mean(loss - plain),
            kl=mean(moved),
            n_tokens=n_tokens,
            bytes_per_token=bytes_per_token,
            increases=tuple((loss - plain).tolist()),
            divergences=tuple(moved.tolist()),
        )
        for one, loss, moved in zip(doses, steered, kl, strict=True)
    ]


def cut(lens: Lens, text: str, window: int | None = None, n_in_front: int = 0) -> Int[Tensor, "window pos"]:
    """The text's tokens in pieces of equal length, each read from its own start; a shorter rest is left out."""
    room = lens.n_context - n_in_front
    if room < 2:
        raise ValueError(
            f"{lens.checkpoint.name} reads at most {lens.n_context} tokens, and the method's own words have "
            f"{n_in_front}: no text fits behind them. Choose another method or checkpoint."
        )
    asked = min(WINDOW, room) if window is None else as_int(window)
    if asked is None or not 2 <= asked <= room:
        raise ValueError(
            f"window is a number of tokens from 2 to {room}, as many as fit into the context; got {window}."
        )
    (tokens,) = lens.encode_all([text])
    window = min(asked, len(tokens))
    if window < 2:
        raise ValueError(f"The text has {len(tokens)} tokens; cost needs at least 2, one to read and one to predict.")
    n = len(tokens) // window
    return torch.tensor(tokens[: n * window]).reshape(n, window)


def batches(lens: Lens, windows: Int[Tensor, "window pos"], n_in_front: int = 0) -> Iterator[Int[Tensor, "batch pos"]]:
    """As many windows at a time as memory should hold the logits of."""
    at_once = max(1, LOGITS_AT_ONCE // ((n_in_front + windows.shape[1]) * lens.n_vocab))
    return (batch.to(lens.device) for batch in windows.split(at_once))


def n_bytes(lens: Lens, tokens: Sequence[int]) -> int:
    """How many bytes of UTF-8 some tokens stand for: byte-level BPE writes each byte as one character."""
    whole = lens.tokenizer.added_tokens_decoder
    written = lens.tokenizer.convert_ids_to_tokens(tokens)
    return sum(len(str(whole[id]).encode() if id in whole else text) for id, text in zip(tokens, written, strict=True))


def words_in_front(lens: Lens, doses: Doses) -> list[int]:
    """Tokens that these doses put in front of a text; a window brings the space between them itself."""
    words = "".join(dose.steering.prefix for dose in doses if dose.strength)
    return lens.encode(words.removesuffix(" ")) if words else []


def log_probs(
    lens: Lens, tokens: Int[Tensor, "batch pos"], doses: Doses = (), in_front: Sequence[int] = ()
) -> Float[Tensor, "batch pos-1 vocab"]:
    """What the model expects after each token of a window but the last, every position steered."""
    words = torch.tensor(in_front, dtype=tokens.dtype, device=tokens.device).expand(len(tokens), -1)
    with hooked(lens, Shifts(lens, [doses] * len(tokens)), "all"):
        logits = lens.plain_logits(torch.cat([words, tokens], dim=1))
    return logits[:, len(in_front) : -1].float().log_softmax(dim=-1)


def divergence(
    plain: Float[Tensor, "batch pos vocab"], steered: Float[Tensor, "batch pos vocab"]
) -> Float[Tensor, " batch"]:
    """KL(plain ‖ steered) from log-probabilities, mean over positions."""
    return (plain.exp() * (plain - steered)).sum(dim=-1).mean(dim=1)


def _measure(
    lens: Lens, doses: Sequence[Doses], in_front: Sequence[Sequence[int]], tokens: Int[Tensor, "batch pos"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, "doses batch"], Float[Tensor, "doses batch"]]:
    """Mean per window of the plain cross-entropy, and the cross-entropy and KL of each of `doses`."""
    plain = log_probs(lens, tokens)
    losses, divergences = [], []
    for one, words in zip(doses, in_front, strict=True):
        steered = log_probs(lens, tokens, one, words)
        losses.append(_loss(steered, tokens))
        divergences.append(divergence(plain, steered).cpu())
    return _loss(plain, tokens), torch.stack(losses), torch.stack(divergences)


def _loss(expected: Float[Tensor, "batch pos vocab"], tokens: Int[Tensor, "batch pos+1"]) -> Float[Tensor, " batch"]:
    return -expected.gather(-1, tokens[:, 1:, None]).squeeze(-1).mean(dim=1).cpu()
