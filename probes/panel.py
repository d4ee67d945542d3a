"""The probes tab: which heads can tell the two classes apart, in one checkpoint or two."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from lens.bench import NOBODY, Bench, Refused, least_and_most_toxic, one_line, one_of
from lens.checkpoint import Checkpoint
from lens.head import Head
from lens.panel import DEVICE_QUEUE, Menus, in_a_sentence, menus
from lens.vocabulary import head_to_residual, nearest_tokens
from probes import page
from probes.direction import direction
from probes.headmap import KEYS
from probes.heatmap import Heatmap
from probes.lexicon import Lexicon, mask
from probes.probe import ProbeSet, probe_checkpoint
from probes.store import BrokenProbes, NoProbes, StaleProbes, saved
from probes.texts import builtin

FORMATS = ("png", "svg", "csv", "json")
HEAD_TOKENS = 30
"""Nearest tokens to list for one head."""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(bench: Bench, tab: gr.Tab) -> Menus:
    """Lay out the tab; gives its menus of checkpoints."""
    with gr.Row():
        chosen = menus(bench, *least_and_most_toxic(bench.catalogue))
        name = probe_menu(bench)
    notice = gr.HTML("", apply_default_css=False, elem_id="probes-notice")
    fit = gr.Button("Fit probes now, on the built-in texts", visible=False, variant="primary", elem_id="fit")
    drawn = gr.HTML("", js_on_load=KEYS.read_text(), apply_default_css=False, elem_id="maps")
    card = gr.HTML("", apply_default_css=False, elem_id="head")
    spread = gr.HTML("", apply_default_css=False, elem_id="histogram")
    with gr.Row(visible=False, elem_id="save") as save:
        which = gr.Dropdown(["first"], value="first", label="Save the map of", min_width=180, scale=2)
        files = [
            gr.DownloadButton(f"{kind.upper()}", size="sm", min_width=70, elem_id=f"save-{kind}") for kind in FORMATS
        ]
    masked = gr.Checkbox(True, label="Hide slurs and insults behind stars", container=False)
    opened = gr.State("")

    @in_a_sentence
    def show(a: str, b: str, name: str) -> tuple[Any, ...]:
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
            gr.update(choices=list(choices), value=next(reversed(choices), None)),
        )

    @in_a_sentence
    def export(a: str, b: str, name: str, which: str) -> list[Any]:
        choices = maps_to_save(list(find(bench, [a, b], name)[0].values()))
        if not choices:
            return [gr.update(value=None)] * len(FORMATS)
        return written(choices[one_of(which, "the map", list(choices))]())

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
    sight = [notice, fit, drawn, spread, card, save, which]
    for trigger in (tab.select, chosen.a.change, chosen.b.change, name.change):
        trigger(show, asked, sight, show_progress="hidden", api_visibility="private").then(
            export, [*asked, which], files, **QUIET
        )
    which.input(export, [*asked, which], files, **QUIET)
    fit.click(fit_now, asked[:2], name, concurrency_id=DEVICE_QUEUE, concurrency_limit=1, api_visibility="private",
              show_progress_on=notice).then(show, asked, sight, **QUIET).then(
        export, [*asked, which], files, **QUIET
    )  # fmt: skip
    drawn.open_head(open_head, [*asked, masked], [opened, card], concurrency_id=DEVICE_QUEUE, concurrency_limit=1,
                    show_progress="minimal", show_progress_on=card, api_visibility="private")  # fmt: skip
    masked.change(again, [opened, *asked, masked], card, concurrency_id=DEVICE_QUEUE, concurrency_limit=1, **QUIET)
    return chosen


def probe_menu(bench: Bench) -> gr.Dropdown:
    """The menu of probe sets: those that any checkpoint has, and the built-in one."""
    names = names_of_sets(bench)
    return gr.Dropdown(
        names, value="toxigen" if "toxigen" in names else names[0], label="Probes fitted on", min_width=140
    )


def names_of_sets(bench: Bench) -> list[str]:
    return sorted({"builtin", *(name for checkpoint in bench.catalogue.values() for name in saved(checkpoint))})


def find(bench: Bench, names: Sequence[str], probes: str) -> tuple[dict[str, ProbeSet], list[str]]:
    """The probe sets of those checkpoints by name, and a sentence for each that has none to show."""
    found, missing = {}, []
    for name, checkpoint in chosen_checkpoints(bench, names).items():
        try:
            found[name] = ProbeSet.load(checkpoint, set_name(probes))
        except (NoProbes, StaleProbes, BrokenProbes) as error:
            missing.append(str(error))
    return found, missing


def chosen_checkpoints(bench: Bench, names: Sequence[str]) -> dict[str, Checkpoint]:
    """Those that the two menus name, each once."""
    first, *others = names
    return {name: bench.checkpoint(name) for name in [first, *(n for n in others if n not in (None, NOBODY))]}


def set_name(name: object) -> str:
    """The name of a probe set; it becomes a file name, so it may not lead elsewhere."""
    if not re.fullmatch(r"\w[\w.-]*", one_line(name, "the probe set", 100)):
        raise Refused(f"A probe set is named with letters, digits, '-', '_' and '.'; got {str(name)[:40]!r}.")
    return str(name)


def maps_to_save(sets: Sequence[ProbeSet]) -> dict[str, Callable[[], Heatmap]]:
    """What can be exported, by the name in the menu."""
    maps: dict[str, Callable[[], Heatmap]] = {
        probes.checkpoint: lambda probes=probes: Heatmap.of(probes) for probes in sets
    }
    if len(sets) == 2 and sets[0].grid == sets[1].grid:
        maps["the difference"] = lambda: Heatmap.difference(*sets)
    return maps


def written(heatmap: Heatmap) -> list[str]:
    """The four files of a map, in a folder of their own."""
    folder = Path(tempfile.mkdtemp(prefix="hormesis-"))
    paths = []
    for kind in FORMATS:
        path = folder / f"{heatmap.title}.{kind}"
        path.write_bytes(getattr(heatmap, f"to_{kind}")())
        paths.append(str(path))
    return paths


def fit_missing(bench: Bench, names: Sequence[str], on_progress: Callable[[str, int, int], None]) -> None:
    """Fit the built-in texts on those of the checkpoints that lack such probes, and save them there."""
    for checkpoint in chosen_checkpoints(bench, names).values():
        try:
            ProbeSet.load(checkpoint, "builtin")
        except (NoProbes, StaleProbes, BrokenProbes):
            with bench.pool.lens(checkpoint) as lens:
                probe_checkpoint(lens, builtin(), on_progress=on_progress)


def head_card(bench: Bench, names: Sequence[str], probes: str, head: str, masked: bool) -> str:
    """What there is to know about one head."""
    where = Head.parse(one_line(head, "the head", 20))
    sides = []
    for name, found in find(bench, names, probes)[0].items():
        if where in found.grid:
            with bench.pool.lens(bench.checkpoint(name)) as lens:
                toxic_end = head_to_residual(lens, where, -direction(found, where).unit)
                sides.append((found, nearest_tokens(lens, toxic_end, HEAD_TOKENS)))
    if not sides:
        raise Refused(f"None of these checkpoints has a head {where} with probes {probes!r}.")
    return page.head_card(where, sides, lexicon(), mask_for(masked))


@cache
def lexicon() -> Lexicon:
    return Lexicon.builtin()


def mask_for(masked: object) -> Callable[[str], str]:
    """Stars over the words of the lexicon, or the text as it is."""
    return (lambda text: mask(text, lexicon())) if masked is not False else str
