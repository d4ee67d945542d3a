"""The tokens tab: which words lie at the toxic end of the best layer, in one checkpoint or two, against chance."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lens.bench import Bench, least_and_most_toxic
from lens.panel import Menus, in_a_sentence, menus
from probes import page
from probes.panel import CHECKED_BY_US, ONE_AT_A_TIME, QUIET, probe_menu
from probes.views import mask_for, token_lists


def build(bench: Bench, tab: gr.Tab) -> Menus:
    """Lay out the tab; gives its menus of checkpoints."""
    with gr.Row():
        chosen = menus(bench, *least_and_most_toxic(bench.catalogue))
        name = probe_menu(bench)
    masked = gr.Checkbox(True, label="Hide slurs and insults behind stars", container=False)
    notice = gr.HTML("", apply_default_css=False)
    shown = gr.HTML(page.nothing("Looking through the vocabulary ..."), apply_default_css=False, elem_id="tokens")
    last = gr.State(None)

    @in_a_sentence
    def show(a: str, b: str, name: str, masked: bool) -> tuple[Any, ...]:
        sides, missing = token_lists(bench, [a, b], name)
        lists = page.token_sides(sides, mask_for(masked)) if sides else ""
        return page.nothing(" ".join(missing)) if missing else "", lists, sides

    def redraw(sides: Any, masked: bool) -> Any:
        return page.token_sides(sides, mask_for(masked)) if sides else gr.skip()

    for trigger in (tab.select, chosen.a.change, chosen.b.change, name.change):
        trigger(show, [chosen.a, chosen.b, name, masked], [notice, shown, last], show_progress="minimal",
                show_progress_on=shown, **CHECKED_BY_US, **ONE_AT_A_TIME)  # fmt: skip
    masked.change(redraw, [last, masked], shown, **QUIET)
    return chosen
