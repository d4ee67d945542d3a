"""What every panel shares: opening a checkpoint by its name, bounding what comes in, saying what went wrong."""

from __future__ import annotations

import functools
import html
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from lens.checkpoint import Catalogue, Checkpoint
from lens.pool import LensPool

STYLE = Path(__file__).with_name("panel.css")
DEVICE_QUEUE = "device"
"""Events with this `concurrency_id` wait for each other, so that visitors see their place in the queue."""
Callback = TypeVar("Callback", bound=Callable[..., Any])


class Refused(ValueError):
    """Something from the browser or the API that no control of ours can produce."""


@dataclass(frozen=True)
class Bench:
    """The folder of checkpoints that a page shows, and the lenses that are open on it."""

    folder: Path
    device: str = "auto"
    dtype: str | None = None
    threads: int | None = None

    @property
    def catalogue(self) -> Catalogue:
        """Read anew each time, so that a checkpoint which has just been trained shows up on reload."""
        return Catalogue(self.folder)

    def checkpoint(self, name: object) -> Checkpoint:
        """A checkpoint by its name in the catalogue; never by a path, for the name comes from the network."""
        if not name:
            raise Refused(
                f"There is no checkpoint to use in {self.folder}/. Train one (python -m training run --recipe demo) "
                "or copy a Hugging Face OLMo folder there, then reload the page."
            )
        return self.catalogue[one_line(name, "the checkpoint")]

    @cached_property
    def pool(self) -> LensPool:
        """The open lenses; two, so that two checkpoints can be seen side by side."""
        return LensPool(limit=2, device=self.device, dtype=self.dtype, threads=self.threads)


def one_line(value: object, what: str, most: int = 200) -> str:
    """A short text from the network."""
    if not isinstance(value, str) or len(value) > most or "\n" in value:
        raise Refused(f"{what[:1].upper()}{what[1:]} should be one line of at most {most} characters.")
    return value


def number(value: object, what: str, low: float, high: float) -> float:
    """A finite number from the network, within bounds that the controls keep too."""
    said = f"{what[:1].upper()}{what[1:]} should be a number from {low:g} to {high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refused(f"{said}; got {str(value)[:40]!r}.")
    if not low <= value <= high:
        raise Refused(f"{said}; got {value:g}.")
    return float(value)


def whole(value: object, what: str, low: int, high: int) -> int:
    """A whole number from the network, within bounds."""
    bounded = number(value, what, low, high)
    if bounded != int(bounded):
        raise Refused(f"{what[:1].upper()}{what[1:]} should be a whole number; got {bounded:g}.")
    return int(bounded)


def one_of(value: object, what: str, choices: Sequence[str]) -> str:
    """One of a short list."""
    if value not in choices:
        raise Refused(f"{what[:1].upper()}{what[1:]} should be one of {', '.join(choices)}; got {str(value)[:40]!r}.")
    return str(value)


def in_a_sentence(callback: Callback) -> Callback:
    """Show the errors of our packages as the sentences they carry; anything else stays a bug with a traceback."""
    if inspect.isgeneratorfunction(callback):

        @functools.wraps(callback)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with _said():
                yield from callback(*args, **kwargs)

        return stream  # type: ignore[return-value]

    @functools.wraps(callback)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _said():
            return callback(*args, **kwargs)

    return call  # type: ignore[return-value]


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError, UnicodeError):  # LookupErrors and ValueErrors that nobody wrote for people
        raise
    except (ValueError, LookupError, OSError) as error:
        # the browser shows the message as HTML, and it may quote what somebody typed
        raise gr.Error(html.escape(str(error)), title="That did not work", print_exception=False) from error


def sentence(text: str) -> str:
    """The plain sentence under a chart, as HTML."""
    return f'<p class="sentence">{html.escape(text)}</p>'
