"""Plain and steered text: many strengths, prompts and samples in one batch, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Event

from lens import Lens
from steering.batch import Batch, Row
from steering.decode import Kept
from steering.notes import Ending
from steering.receipt import Receipt
from steering.sampling import Sampling


@dataclass(frozen=True)
class Step:
    """Where all rows stand after one more token; everything in the order of the rows."""

    texts: list[str]
    """Each row's text so far, without its prompt."""
    n_tokens: list[int]
    ended: list[Ending | None]
    """Why a text grows no more; None: it grows."""
    receipts: tuple[Receipt, ...]
    """Shifts are measured before the first token is shown; positions and gates are counted up to here."""
    n_context: int
    """Tokens that the model reads and writes at most."""

    @property
    def done(self) -> list[bool]:
        return [ending is not None for ending in self.ended]


@dataclass(frozen=True)
class Generation:
    """One finished text."""

    text: str
    tokens: tuple[int, ...]
    """Without the end-of-text token."""
    receipt: Receipt
    ended: Ending | None
    """Why it grew no further; None: it was stopped."""


def stream(lens: Lens, rows: Sequence[Row], sampling: Sampling, stop: Event | None = None) -> Iterator[Step]:
    """All rows together, one step per token, until every row is done or `stop` is set.

    The model is only steered while a step is computed, never while the caller looks at one.
    """
    batch = Batch(lens, rows, sampling)
    while batch.live and not (stop is not None and stop.is_set()):
        batch.advance()
        yield _step(batch)


def generate(
    lens: Lens, rows: Sequence[Row], sampling: Sampling, stop: Event | None = None, kept: Kept | None = None
) -> list[Generation]:
    """What `stream` writes, when it is finished or stopped: one text per row.

    Large batches on the same prompts read them once if they are given the same `kept`, at first an empty dict.
    """
    batch = Batch(lens, rows, sampling, kept)
    while batch.live and not (stop is not None and stop.is_set()):
        batch.advance()
    return [
        Generation(words.text, tuple(words.tokens), receipt, ended)
        for words, receipt, ended in zip(batch.words, batch.receipts, batch.ended, strict=True)
    ]


def interleaved(streams: Sequence[Iterator[Step]]) -> Iterator[list[Step | None]]:
    """Streams of several checkpoints or plans, a token of each in turn, each in its own place.

    A stream that has ended keeps its last step; None stands for a stream that ended before its first one.
    """
    latest: list[Step | None] = [None] * len(streams)
    running = set(range(len(streams)))
    while running:
        for i in sorted(running):
            step = next(streams[i], None)
            if step is None:
                running.discard(i)
            else:
                latest[i] = step
        if running:
            yield list(latest)


def _step(batch: Batch) -> Step:
    return Step(
        [words.text for words in batch.words],
        [len(words.tokens) for words in batch.words],
        list(batch.ended),
        batch.receipts,
        batch.n_context,
    )
