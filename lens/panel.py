"""What the panels share on screen: the menus of checkpoints, and errors said in a sentence."""

from __future__ import annotations

import functools
import html
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from lens.bench import NOBODY, Bench

DEVICE_QUEUE = "device"
"""Events with this `concurrency_id` wait for each other, so that visitors see their place in the queue."""
OURS = ("lens", "probes", "steering")
Callback = TypeVar("Callback", bound=Callable[..., Any])


@dataclass(frozen=True)
class Menus:
    """The two menus of checkpoints that a tab begins with."""

    a: gr.Dropdown
    b: gr.Dropdown

    def update(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """New choices for both; what is chosen stays."""
        return [gr.update(choices=list(names)), gr.update(choices=second(names))]


def menus(bench: Bench, a: str | None, b: str) -> Menus:
    """A menu that always names a checkpoint and one that may name another."""
    names = bench.catalogue.names
    return Menus(
        gr.Dropdown(names, value=a, label="Checkpoint", min_width=140, filterable=len(names) > 12),
        gr.Dropdown(second(names), value=b, label="Beside it", min_width=140, filterable=len(names) > 12),
    )


def second(names: Sequence[str]) -> list[tuple[str, str]]:
    return [("none", NOBODY), *((name, name) for name in names)]


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
    except Exception as error:
        if not _is_a_sentence(error):
            raise
        # the browser shows the message as HTML, and it may quote what somebody typed
        raise gr.Error(html.escape(str(error)), title="That did not work", print_exception=False) from error


def _is_a_sentence(error: Exception) -> bool:
    """Whether somebody wrote the message for people: our own classes, and the built-in ones that we raise."""
    ours = type(error).__module__.split(".")[0] in OURS
    plain = isinstance(error, ValueError | LookupError | OSError)
    return ours or (plain and not isinstance(error, KeyError | IndexError | UnicodeError))


def sentence(text: str) -> str:
    """The plain sentence under a chart, as HTML."""
    return f'<p class="sentence">{html.escape(text)}</p>'
