"""The tokens tab: which words lie at the toxic end of the best layer, in one checkpoint or two, against chance."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lens.bench import Bench, least_and_most_toxic
from lens.panel import Menus, in_a_sentence, menus
from probes import page
from probes.panel import CHECKED_BY_US, ONE_AT_A_TIME, probe_menu
from probes.views import fitting_set, mask_for, names_of_sets, token_lists


def build(bench: Bench, tab: gr.Tab) -> Menus:
    """Lay out the tab; gives its menus of checkpoints."""
    with gr.Row():
        pair = least_and_most_toxic(bench.catalogue)
        chosen, name = menus(bench, *pair), probe_menu(bench, pair)
    masked = gr.Checkbox(True, label="Hide slurs and insults behind stars", container=False)
    notice = gr.HTML("", apply_default_css=False)
    shown = gr.HTML(page.nothing("Looking through the vocabulary ..."), apply_default_css=False, elem_id="tokens")

    @in_a_sentence
    def show(a: str, b: str, name: str, masked: bool) -> tuple[Any, ...]:
        name = fitting_set(bench, [a, b], name)
        sides, missing = token_lists(bench, [a, b], name)
        lists = page.token_sides(sides, mask_for(masked)) if sides else ""
        menu = gr.update(choices=names_of_sets(bench), value=name)
        return page.nothing(" ".join(missing)) if missing else "", lists, menu

    for trigger in (tab.select, chosen.a.change, chosen.b.change, name.input, masked.change):
        trigger(show, [chosen.a, chosen.b, name, masked], [notice, shown, name], show_progress="minimal",
                show_progress_on=shown, **CHECKED_BY_US, **ONE_AT_A_TIME)  # fmt: skip
    return chosen
