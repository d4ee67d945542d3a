"""The Compare tab: what sweeps found, as pictures whose points open the texts behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from evaluation import page
from evaluation.shelf import Shelf
from evaluation.views import View, written
from evaluation.views import card as card_of
from lens.panel import in_a_sentence, sentence
from probes.page import nothing

SAVES = ("PNG", "SVG", "CSV")
CHECKED: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
"""By us, in words of ours: Gradio would hold what comes in against the menus as they were laid out."""
IN_TURN: dict[str, Any] = {"concurrency_id": "drawing", "concurrency_limit": 1}
MENUS = ("Results", "Picture", "Prompts", "Plans at")
JS = Path(__file__).with_name("panel.js").read_text()
"""Arrow keys, the line that reads out a point, and the event `open_point`."""


ANNOUNCED = 'element.setAttribute("aria-live", "polite");'
"""What a press opens is said to those who do not see it."""


def build(shelf: Shelf, tab: gr.Tab) -> None:
    """Lay out the tab, on the results that ship and those of one's own."""
    with gr.Row():
        menus = [gr.Dropdown([], label=label, min_width=160, visible=False, filterable=False) for label in MENUS]
    with gr.Row(elem_classes="desk"):
        with gr.Column(scale=8, min_width=320):
            drawn = gr.HTML(nothing("Drawing ..."), js_on_load=JS, apply_default_css=False, elem_id="drawn")
            rests_on = gr.HTML("", apply_default_css=False)
            with gr.Row(elem_id="save-compared", visible=False) as save:
                files = [gr.DownloadButton(kind, min_width=90, elem_id=f"compared-{kind.lower()}") for kind in SAVES]
        with gr.Column(scale=5, min_width=320):
            card = gr.HTML("", js_on_load=ANNOUNCED, apply_default_css=False, elem_id="point")
    table = gr.HTML("", js_on_load=JS, apply_default_css=False, elem_id="numbers")

    waiting = [gr.update(value=None, interactive=False)] * len(SAVES)

    @in_a_sentence
    def show(*wanted: Any) -> list[Any]:
        view = View.of(shelf, *wanted)
        if view is None:
            return [*[gr.update(visible=False)] * len(menus), nothing(page.NO_RESULTS), "", "", "", gr.skip(), *waiting]
        offers = [
            gr.update(choices=menu.labelled, value=menu.chosen, visible=len(menu.offered) > 1) for menu in view.menus
        ]
        shown = view.picture, view.table, sentence(page.about(view.extract, view.graph)), page.HINT
        return [*offers, *shown, gr.update(visible=True), *waiting]

    @in_a_sentence
    def save_them(*wanted: Any) -> list[Any]:
        view = View.of(shelf, *wanted)
        return [gr.update(value=path, interactive=True) for path in written(view)] if view else waiting

    @in_a_sentence
    def open_point(event: gr.EventData, results: str) -> str:
        return card_of(shelf, results, event._data)

    sight = [*menus, drawn, table, rests_on, card, save, *files]
    for trigger in (tab.select, *(menu.input for menu in menus)):
        shown = trigger(show, menus, sight, show_progress="minimal", show_progress_on=drawn, **CHECKED, **IN_TURN)
        shown.success(save_them, menus, files, show_progress="hidden", **CHECKED, **IN_TURN)
    for place in (drawn, table):
        place.open_point(open_point, menus[0], card, show_progress="hidden", **CHECKED)
