"""Rows of different prompts, strengths and samples that are written together, a token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lens import Lens
from probes.direction import Direction
from steering.decode import Decoder
from steering.plan import Plan
from steering.receipt import Receipt, ShiftMissed, compare, outputs
from steering.sampling import Sampling, next_tokens, noise_at, noise_key
from steering.steerer import biased, by_layer, checked_positions, checked_sigmas, pushes
from steering.words import Words

T = TypeVar("T")
FEW_ROWS = 8
"""Up to so many rows a token costs the same, so rows that have ended stay in the batch and its shape stays equal."""


@dataclass(frozen=True)
class Row:
    """One text to write."""

    prompt: str
    sigmas: float
    """Strength in standard deviations along each direction; positive detoxifies, 0 is the plain model."""
    sample: int = 0
    """Which of several texts on one prompt; each has noise of its own."""

    def __post_init__(self) -> None:
        checked_sigmas(self.sigmas)


class Batch:
    """Rows on their way: steered only inside the `with`, and there only while `advance` computes."""

    def __init__(
        self,
        lens: Lens,
        rows: Sequence[Row],
        directions: Sequence[Direction],
        sampling: Sampling,
        positions: str,
        plan: Plan | None,
    ) -> None:
        prompts = [_encode(lens, row.prompt, sampling) for row in rows]
        self._lens, self._sampling, self._positions = lens, sampling, checked_positions(positions)
        self._directions = directions
        self._sigmas = checked_sigmas([row.sigmas for row in rows]) if rows else torch.zeros(0)
        self._pushes = pushes(lens, directions, self._sigmas)
        self._room = [min(sampling.max_tokens, lens.n_context - len(prompt)) for prompt in prompts]
        self._unreal = None if bool(lens.real_tokens.all()) else ~lens.real_tokens.to(lens.device)
        keys = [noise_key(sampling.seed, prompt, row.sample) for row, prompt in zip(rows, prompts, strict=True)]
        self._noise_keys, noise_of = _distinct(keys)
        self._noise_of = torch.tensor(noise_of)
        self.receipts = self._unmeasured(rows, plan)
        self.words = [Words(lens) for _ in rows]
        self.tokens: list[list[int]] = [[] for _ in rows]
        self.live = set(range(len(rows)))
        """Rows that still grow."""
        self._batch = list(range(len(rows)))
        """Rows that are still computed."""
        self._n_steps = 0
        if rows:
            self._decoder = self._prefill(prompts)
            self._next = torch.tensor([prompt[-1] for prompt in prompts], device=lens.device)
        self._undo = ExitStack()

    def __enter__(self) -> Batch:
        """Hang up the hooks, switched off: `advance` switches them on while it computes."""
        self._bias = self._undo.enter_context(biased(self._lens, self._pushes, self._positions))
        self._bias.on = False
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    def _unmeasured(self, rows: Sequence[Row], plan: Plan | None) -> tuple[Receipt, ...]:
        described, seed, model = plan.to_json() if plan else "", self._sampling.seed, self._lens.description
        return tuple(Receipt(row.sigmas, (), self._positions, seed, row.sample, described, model) for row in rows)

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> Decoder:
        """Read all but the last token of each prompt: once per prompt, or per strength too where that is steered."""
        everywhere = self._positions == "all"
        strengths = self._sigmas.tolist() if everywhere else [None] * len(prompts)
        beginnings = [(tuple(prompt[:-1]), sigmas) for prompt, sigmas in zip(prompts, strengths, strict=True)]
        distinct, prefix_of = _distinct(beginnings)
        with ExitStack() as undo:
            if everywhere:
                readers = [prefix_of.index(i) for i in range(len(distinct))]
                undo.enter_context(biased(self._lens, _rows(self._pushes, readers), "all"))
            return Decoder(self._lens, [tokens for tokens, _ in distinct], prefix_of, max(self._room))

    def advance(self) -> None:
        """One more token for every live row."""
        logits = self._measured_step() if self._n_steps == 0 else self._step()
        if self._unreal is not None:
            logits = logits.masked_fill(self._unreal, float("-inf"))
        self._next = next_tokens(logits, self._noise(), self._sampling)
        self._n_steps += 1
        for row, token in zip(self._batch, self._next.tolist(), strict=True):
            if row in self.live:
                self._take(row, token)
        self._drop_finished()

    def _step(self) -> Float[Tensor, "row vocab"]:
        """Logits after one more token, steered; every layer's push must have been added once."""
        before = self._bias.fired
        self._bias.on = True
        try:
            logits = self._decoder.step(self._next)
        finally:
            self._bias.on = False
        if self._bias.fired - before != len(self._bias.pushes):
            raise ShiftMissed("Steering was taken off while text was being written. Generate it again.")
        return logits

    def _measured_step(self) -> Float[Tensor, "row vocab"]:
        """The first step, with the shift that each layer's push really makes."""
        with outputs(self._lens, list(by_layer(self._lens, self._directions))) as seen:
            logits = self._step()
        shifts = compare(self._lens, self._directions, self._sigmas, seen)
        self.receipts = tuple(replace(r, shifts=row) for r, row in zip(self.receipts, shifts, strict=True))
        return logits

    def _noise(self) -> Float[Tensor, "row vocab"] | None:
        if self._sampling.temperature == 0:
            return None
        noise = [noise_at(key, self._n_steps, self._lens.n_vocab) for key in self._noise_keys]
        if len(noise) == 1:
            return noise[0][None].to(self._lens.device)
        return torch.stack(noise)[self._noise_of].to(self._lens.device)

    def _take(self, row: int, token: int) -> None:
        if token == self._lens.eos:
            self.live.discard(row)
            return
        self.tokens[row].append(token)
        self.words[row].add(token)
        if len(self.tokens[row]) >= self._room[row]:
            self.live.discard(row)

    def _drop_finished(self) -> None:
        """Stop computing finished rows once half of a large batch is finished: copying the cache costs a step."""
        if len(self._batch) <= FEW_ROWS or 2 * len(self.live) > len(self._batch) or not self.live:
            return
        kept = [i for i, row in enumerate(self._batch) if row in self.live]
        self._batch = [self._batch[i] for i in kept]
        self._bias.pushes = _rows(self._bias.pushes, kept)
        self._next = self._next[kept]
        self._noise_keys, noise_of = _distinct([self._noise_keys[i] for i in self._noise_of[kept].tolist()])
        self._noise_of = torch.tensor(noise_of)
        self._decoder.keep(kept)


def _encode(lens: Lens, prompt: str, sampling: Sampling) -> list[int]:
    """A prompt's tokens, refused where no token fits behind them."""
    if sampling.max_tokens >= lens.n_context:
        raise ValueError(
            f"{lens.checkpoint.name} reads and writes at most {lens.n_context} tokens together, so max_tokens is at "
            f"most {lens.n_context - 1}; got {sampling.max_tokens}."
        )
    tokens = lens.encode(prompt)
    if len(tokens) > lens.n_context - 1:
        raise ValueError(
            f"The prompt fills the context: it has {len(tokens)} tokens, and {lens.checkpoint.name} reads and writes "
            f"at most {lens.n_context} together. Shorten it."
        )
    return tokens


def _rows(pushes: dict[int, Tensor], rows: Sequence[int]) -> dict[int, Tensor]:
    """The pushes of some rows."""
    return {layer: push[list(rows)] for layer, push in pushes.items()}


def _distinct(things: Sequence[T]) -> tuple[list[T], list[int]]:
    """The different things, and for each thing which of them it is."""
    places: dict[T, int] = {}
    which = [places.setdefault(thing, len(places)) for thing in things]
    return list(places), which
