"""The probes tab: which heads can tell the two classes apart, in one checkpoint or two."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from lens.bench import Bench, least_and_most_toxic
from lens.panel import DEVICE_QUEUE, Menus, in_a_sentence, menus
from lens.validate import one_of
from probes import page
from probes.headmap import KEYS
from probes.heatmap import HeadHistogram
from probes.views import (
    FORMATS,
    find,
    fit_missing,
    fitting_set,
    head_card,
    maps_to_save,
    names_of_sets,
    written,
)

NO_MAP = "nothing yet"
SAVES = (*map(str.upper, FORMATS), "Histogram")
"""The chosen map in each format, and all heads of what is shown."""
CHECKED_BY_US: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
"""Gradio would hold what comes in against the menus as they were laid out, and refuse it in words of its own."""
INTO_VIEW = Path(__file__).with_name("card.js").read_text()
QUIET: dict[str, Any] = {**CHECKED_BY_US, "show_progress": "hidden"}
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": DEVICE_QUEUE, "concurrency_limit": 1}


def build(bench: Bench, tab: gr.Tab) -> Menus:
    """Lay out the tab; gives its menus of checkpoints."""
    with gr.Row():
        pair = least_and_most_toxic(bench.catalogue)
        chosen, name = menus(bench, *pair), probe_menu(bench, pair)
    notice = gr.HTML("", apply_default_css=False, elem_id="probes-notice")
    fit = gr.Button("Fit probes now, on the built-in texts", visible=False, variant="primary", elem_id="fit")
    drawn = gr.HTML("", js_on_load=KEYS.read_text(), apply_default_css=False, elem_id="maps")
    with gr.Row(visible=False, elem_id="save") as save:
        which = gr.Dropdown([NO_MAP], value=NO_MAP, label="Save the map of", min_width=180, scale=3)
        files = [
            gr.DownloadButton(
                label, min_width=14 * len(label), scale=1, elem_id=f"save-{label.lower()}", interactive=False
            )
            for label in SAVES
        ]
    card = gr.HTML("", js_on_load=INTO_VIEW, apply_default_css=False, elem_id="head")
    spread = gr.HTML("", apply_default_css=False, elem_id="histogram")
    masked = gr.Checkbox(True, label="Hide slurs and insults behind stars", container=False)
    opened = gr.State("")

    @in_a_sentence
    def show(a: str, b: str, name: str) -> tuple[Any, ...]:
        name = fitting_set(bench, [a, b], name)
        found, missing = find(bench, [a, b], name)
        sets = list(found.values())
        choices = maps_to_save(sets)
        return (
            page.nothing(" ".join(missing)) if missing else "",
            gr.update(visible=bool(missing)),
            page.maps(sets) if sets else "",
            page.histogram(sets) if sets else "",
            "",
            gr.update(visible=bool(sets)),
            gr.update(choices=list(choices) or [NO_MAP], value=next(reversed(choices), NO_MAP)),
            "",
            gr.update(choices=names_of_sets(bench), value=name),
            *drawing(),
        )

    def drawing() -> list[Any]:
        """The buttons wait until their files are there."""
        return [gr.update(value=None, interactive=False)] * len(SAVES)

    @in_a_sentence
    def export(a: str, b: str, name: str, which: str) -> list[Any]:
        sets = list(find(bench, [a, b], name)[0].values())
        choices = maps_to_save(sets)
        if not choices:
            return drawing()
        paths = written(choices[one_of(which, "the map", list(choices))])
        paths += written(HeadHistogram.of(*sets), ["png"])
        return [gr.update(value=path, interactive=True) for path in paths]

    @in_a_sentence
    def fit_now(a: str, b: str, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008 (Gradio reads the default)
        fit_missing(bench, [a, b], lambda stage, done, total: progress((done, total), desc=f"{stage} texts"))
        return gr.update(choices=names_of_sets(bench), value="builtin")

    @in_a_sentence
    def open_head(event: gr.EventData, a: str, b: str, name: str, masked: bool) -> tuple[str, str]:
        head = str(event._data.get("head", "")) if isinstance(event._data, dict) else ""
        return head, head_card(bench, [a, b], name, head, masked)

    @in_a_sentence
    def again(head: str, a: str, b: str, name: str, masked: bool) -> Any:
        return head_card(bench, [a, b], name, head, masked) if head else gr.skip()

    asked = [chosen.a, chosen.b, name]
    sight = [notice, fit, drawn, spread, card, save, which, opened, name, *files]
    for trigger in (tab.select, chosen.a.change, chosen.b.change, name.input):
        trigger(show, asked, sight, **QUIET).success(export, [*asked, which], files, **QUIET)
    which.input(drawing, None, files, **QUIET).success(export, [*asked, which], files, **QUIET)
    fitted = fit.click(fit_now, asked[:2], name, show_progress_on=notice, **CHECKED_BY_US, **ONE_AT_A_TIME)
    fitted.success(show, asked, sight, **QUIET).success(export, [*asked, which], files, **QUIET)
    drawn.open_head(open_head, [*asked, masked], [opened, card], show_progress="minimal", show_progress_on=card,
                    **CHECKED_BY_US, **ONE_AT_A_TIME)  # fmt: skip
    masked.change(again, [opened, *asked, masked], card, **QUIET, **ONE_AT_A_TIME)
    return chosen


def probe_menu(bench: Bench, chosen: Sequence[str | None]) -> gr.Dropdown:
    """The menu of probe sets: those that any checkpoint has, and the built-in one."""
    names = names_of_sets(bench)
    usual = "toxigen" if "toxigen" in names else names[0]
    return gr.Dropdown(names, value=fitting_set(bench, chosen, usual), label="Probes fitted on", min_width=140)
