"""The tokens tab: which words lie at the toxic end, in one checkpoint or two, against chance."""

from __future__ import annotations

import gradio as gr

from lens.bench import Bench, least_and_most_toxic
from lens.panel import Menus, menus


def build(bench: Bench, tab: gr.Tab) -> Menus:
    with gr.Row():
        chosen = menus(bench, *least_and_most_toxic(bench.catalogue))
    return chosen
