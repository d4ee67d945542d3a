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
from lens.shown_paths import without_folders

DEVICE_QUEUE = "device"
"""Events with this `concurrency_id` wait for each other, so that visitors see their place in the queue."""
OURS = ("lens", "probes", "steering", "evaluation")
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
        if not is_a_sentence(error):
            raise
        # the browser shows the message as HTML, and it may quote what somebody typed
        raise gr.Error(
            html.escape(without_folders(str(error))), title="That did not work", print_exception=False
        ) from error


def is_a_sentence(error: Exception) -> bool:
    """Whether somebody wrote the message for people: our own classes, and the built-in ones that we raise."""
    ours = type(error).__module__.split(".")[0] in OURS
    plain = isinstance(error, ValueError | LookupError | OSError)
    return ours or (plain and not isinstance(error, KeyError | IndexError | UnicodeError))


def sentence(text: str) -> str:
    """The plain sentence under a chart, as HTML.

    Gradio puts what `gr.HTML` is given into its template `${value}` unescaped, so all that becomes HTML is escaped in
    Python, here as in every page.py.
    """
    return f'<p class="sentence">{html.escape(text)}</p>'


def theme() -> gr.themes.Base:
    """Paper and ink with one accent, in the fonts that come with gradio: nothing is fetched from elsewhere."""
    sans, mono = (
        gr.themes.utils.fonts.LocalFont(name, weights=(400, 700)) for name in ("IBM Plex Sans", "IBM Plex Mono")
    )
    return gr.themes.Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="zinc",
        radius_size="md",
        spacing_size="md",
        font=[sans, "system-ui", "sans-serif"],
        font_mono=[mono, "ui-monospace", "monospace"],
    ).set(
        body_background_fill="#fbfaf8",
        body_background_fill_dark="#121517",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#1a1e21",
        background_fill_secondary="#f4f2ee",
        background_fill_secondary_dark="#20262a",
        body_text_color="#1c2226",
        body_text_color_dark="#e8eaeb",
        body_text_color_subdued="#5a646b",
        body_text_color_subdued_dark="#9aa4ab",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_padding="0px",
        block_shadow="none",
        block_title_text_color="*body_text_color_subdued",
        block_title_text_size="13px",
        block_title_text_weight="400",
        border_color_primary="#e2ded7",
        border_color_primary_dark="#2f373c",
        input_background_fill="#ffffff",
        input_background_fill_dark="#1a1e21",
        input_border_width="1px",
        input_border_color="*border_color_primary",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="*background_fill_primary",
        button_secondary_background_fill_dark="*background_fill_primary",
        button_secondary_background_fill_hover="*background_fill_secondary",
        button_secondary_background_fill_hover_dark="*background_fill_secondary",
        button_secondary_border_color="*border_color_primary",
        button_border_width="1px",
        button_large_text_weight="600",
        slider_color="*primary_700",
        slider_color_dark="*primary_400",
        checkbox_background_color_selected="*primary_700",
        checkbox_background_color_selected_dark="*primary_600",
        checkbox_label_background_fill="*background_fill_primary",
        checkbox_label_background_fill_dark="*background_fill_primary",
    )
