"""Rows of different prompts, strengths and samples that are written together, a token at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lens import Lens
from lens.numeric import settle_numbers
from steering.decode import Decoder, Kept, Seen
from steering.dose import Doses
from steering.notes import Ending, prompt_notes
from steering.receipt import Receipt, Shift, compare
from steering.sampling import Sampling, next_tokens, noise_at, noise_of
from steering.steerer import Amount, Shifts
from steering.words import Words

T = TypeVar("T")
FEW_ROWS = 8
"""Up to so many rows a token costs the same, so rows that have ended stay in the batch and its shape stays equal."""


class NotNumbers(ValueError):
    """The model's logits are no numbers: too strong an edit for the number format, or spoilt weights."""


@dataclass(frozen=True, eq=False)
class Row:
    """One text to write."""

    prompt: str
    doses: Doses = ()
    """What steers it: `iti.at(8)`, or several, which add up: `iti.at(8) + caa.at(1)`. None: the plain model."""
    sample: int = 0
    """Which of several texts on one prompt; each has noise of its own."""

    def __post_init__(self) -> None:
        settle_numbers(self)

    @property
    def read(self) -> str:
        """What the model reads: the prompt, behind the words of the methods that ask in words."""
        return "".join(dose.steering.prefix for dose in self.doses if dose.strength) + self.prompt


class Batch:
    """Rows on their way: the model is edited only while `advance` computes, and no hook is hung up."""

    def __init__(self, lens: Lens, rows: Sequence[Row], sampling: Sampling, kept: Kept | None = None) -> None:
        """`kept` holds what the batch before has read, and then what this one has."""
        texts = list(dict.fromkeys(row.read for row in rows))
        tokens_of = dict(zip(texts, encoded(lens, texts, sampling), strict=True))
        prompts = [tokens_of[row.read] for row in rows]
        self._lens, self._sampling, self._rows = lens, sampling, rows
        self._shifts = Shifts(lens, [row.doses for row in rows])
        self._room = [min(sampling.max_tokens, lens.n_context - len(prompt)) for prompt in prompts]
        self._unreal = (~lens.real_tokens).nonzero()[:, 0].to(lens.device)
        if unread := list({row.prompt for row in rows} - tokens_of.keys()):
            tokens_of |= zip(unread, lens.encode_prompts(unread), strict=True)
        chances, self._noise_of = _distinct([(row.prompt, row.sample) for row in rows])
        self._noises = [noise_of(sampling.seed, tokens_of[prompt], sample) for prompt, sample in chances]
        """Chance of each (prompt, sample); `_noise_of` says which one each row has."""
        self.n_context = lens.n_context
        self.words = [Words(lens) for _ in rows]
        self.live = set(range(len(rows)))
        """Rows that still grow."""
        self.ended: list[Ending | None] = [None] * len(rows)
        """Why each row grows no more."""
        self._notes = {prompt: prompt_notes(lens, prompt) for prompt in {row.prompt for row in rows}}
        self._batch = list(range(len(rows)))
        """Rows that are still computed."""
        self._n_steps = 0
        self._prompt_lengths = [len(prompt) for prompt in prompts]
        self._n_read = [0] * len(rows)
        """Of each row, the steps that were computed while it was live."""
        self._looked, self._opened = [0] * len(rows), [0] * len(rows)
        """Of each row, the (edit, token) pairs that gates looked at, and those that they let through."""
        self._shifted: list[tuple[Shift, ...]] = [() for _ in rows]
        if rows:
            self._decoder = self._prefill(prompts, kept)
            self._next = torch.tensor([prompt[-1] for prompt in prompts], device=lens.device)

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """What was done to each row so far."""
        model = self._lens.description
        return tuple(
            Receipt(
                tuple((dose.steering.plan, dose.strength) for dose in row.doses),
                tuple(dose.steering.fitted_on for dose in row.doses),
                self._shifted[i],
                self._n_positions(i),
                self._opened[i] / self._looked[i] if self._looked[i] else None,
                self._sampling.seed,
                row.sample,
                model,
                self._notes[row.prompt],
            )
            for i, row in enumerate(self._rows)
        )

    def _n_positions(self, row: int) -> int:
        """Positions that were edited: each step edits one, and rules for every position the prompt before it."""
        acting = [dose for dose in self._rows[row].doses if dose.strength and dose.steering.edits]
        before = self._prompt_lengths[row] - 1 if any(dose.everywhere for dose in acting) else 0
        return before + self._n_read[row] if acting else 0

    def _prefill(self, prompts: Sequence[Sequence[int]], kept: Kept | None) -> Decoder:
        """Read all but the last token of each prompt: once per prompt, or per doses too where these edit all of it."""
        everywhere = [tuple(dose for dose in row.doses if dose.everywhere) for row in self._rows]
        names = [tuple((id(dose.steering), dose.strength) for dose in doses) for doses in everywhere]
        beginnings = [(tuple(prompt[:-1]), name) for prompt, name in zip(prompts, names, strict=True)]
        distinct, prefix_of = _distinct(beginnings)
        doses = [everywhere[prefix_of.index(i)] for i in range(len(distinct))]
        shifts, seen = Shifts(self._lens, doses), Seen()
        tokens = [tokens for tokens, _ in distinct]
        decoder = Decoder(self._lens, tokens, prefix_of, max(self._room), shifts, seen, kept)
        if decoder.n_read:
            compare(self._lens, doses, seen)  # at the prompt's last position but one
            lengths = [len(tokens) for tokens, _ in distinct]
            real = torch.arange(decoder.n_read) >= decoder.n_read - torch.tensor(lengths)[:, None]
            self._count(shifts.gates, list(enumerate(prefix_of)), real.to(self._lens.device))
        return decoder

    def _count(self, gates: Sequence[Amount], rows: Sequence[tuple[int, int]], real: Bool[Tensor, "place pos"]) -> None:
        """Add up what gates did in a pass; `rows`: ours and their places in the pass."""
        if not gates:
            return
        acting = torch.stack([gate.strengths.flatten() != 0 for gate in gates])  # [gate place]
        opened = torch.stack([gate.opens & real for gate in gates if gate.opens is not None]).sum(-1)
        looked = acting * real.sum(-1)
        opened, looked = torch.stack([(acting * opened).sum(0), looked.sum(0)]).tolist()
        for row, place in rows:
            self._opened[row] += opened[place]
            self._looked[row] += looked[place]

    @torch.inference_mode()
    def advance(self) -> None:
        """One more token for every live row."""
        logits = self._measured_step() if self._n_steps == 0 else self._decoder.step(self._next, self._shifts)
        if gates := self._shifts.gates:
            live = [(row, place) for place, row in enumerate(self._batch) if row in self.live]
            self._count(gates, live, torch.ones(len(self._batch), 1, dtype=torch.bool, device=self._lens.device))
        logits.index_fill_(-1, self._unreal, float("-inf"))
        self._next = next_tokens(logits, self._noise(), self._sampling)
        spoilt = logits.gather(-1, self._next[:, None]).isnan()[:, 0]  # the largest of numbers and NaN is NaN
        tokens, wrong = torch.stack([self._next, spoilt.long()]).tolist()  # on a GPU, the one wait of a greedy token
        if any(wrong):
            raise NotNumbers(
                f"{self._lens.checkpoint.name} computed what is no number, in {self._lens.description['dtype']}. Steer "
                "less, or open it with --dtype float32."
            )
        self._n_steps += 1
        self._take(tokens)
        self._drop_finished()

    def _measured_step(self) -> Float[Tensor, "row vocab"]:
        """The first step, with the shift that each edit really makes."""
        seen = Seen()
        logits = self._decoder.step(self._next, self._shifts, seen)
        self._shifted = compare(self._lens, [row.doses for row in self._rows], seen)
        return logits

    def _noise(self) -> Float[Tensor, "noise vocab"] | None:
        if self._sampling.temperature == 0:
            return None
        noise = noise_at(self._noises, self._n_steps, self._lens.n_vocab)
        n_each = len(self._noise_of) // len(noise)
        if self._noise_of != [place for place in range(len(noise)) for _ in range(n_each)]:  # not shared in turn
            noise = noise[self._noise_of]
        if self._lens.device.type != "cuda":
            return noise.to(self._lens.device)
        return noise.pin_memory().to(self._lens.device, non_blocking=True)  # drawn and sent while the GPU computes

    def _take(self, tokens: Sequence[int]) -> None:
        """Give each live row its next token."""
        live, ends = self.live, self._lens.end_tokens
        for row, token in zip(self._batch, tokens, strict=True):
            if row in live:
                self._n_read[row] = self._n_steps
                written = self.words[row].tokens
                if token in ends:
                    self.ended[row] = "end token"
                else:
                    written.append(token)
                    if len(written) >= self._room[row]:
                        self.ended[row] = "length" if len(written) == self._sampling.max_tokens else "context"
                if self.ended[row]:
                    live.discard(row)

    def _drop_finished(self) -> None:
        """Stop computing finished rows once half of a large batch is finished: copying the cache costs a step."""
        if len(self._batch) <= FEW_ROWS or 2 * len(self.live) > len(self._batch) or not self.live:
            return
        places = [i for i, row in enumerate(self._batch) if row in self.live]
        kept = torch.tensor(places, device=self._lens.device)
        self._batch = [self._batch[i] for i in places]
        self._shifts.keep(kept)
        self._decoder.keep(kept)
        self._next = self._next[kept]
        self._noises, self._noise_of = _distinct([self._noises[self._noise_of[i]] for i in places])


def encoded(lens: Lens, prompts: Sequence[str], sampling: Sampling) -> list[list[int]]:
    """Prompts' tokens, refused where no token fits behind them."""
    if sampling.max_tokens >= lens.n_context:
        raise ValueError(
            f"{lens.checkpoint.name} reads and writes at most {lens.n_context} tokens together, so max_tokens is at "
            f"most {lens.n_context - 1}; got {sampling.max_tokens}."
        )
    found = lens.encode_prompts(prompts) if prompts else []
    for tokens in found:
        if len(tokens) > lens.n_context - 1:
            raise ValueError(
                f"The prompt fills the context: it has {len(tokens)} tokens, and {lens.checkpoint.name} reads and "
                f"writes at most {lens.n_context} together. Shorten it."
            )
    return found


def _distinct(things: Sequence[T]) -> tuple[list[T], list[int]]:
    """The different things, and for each thing which of them it is."""
    places: dict[T, int] = {}
    which = [places.setdefault(thing, len(places)) for thing in things]
    return list(places), which
