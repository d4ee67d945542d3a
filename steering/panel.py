"""The steering tab: plain and steered text of one checkpoint or two, growing side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr

from lens.bench import NOBODY, Bench, Refused, about
from lens.panel import DEVICE_QUEUE, Menus, in_a_sentence, menus, sentence
from probes.panel import probe_menu
from probes.probe import ProbeSet
from probes.store import NoProbes
from probes.views import mask_for
from steering.asked import (
    KINDS,
    MOST_HEADS,
    MOST_SEED,
    MOST_SIGMAS,
    MOST_TOKENS,
    PROMPT_CHARACTERS,
    Asked,
    asked,
    command,
)
from steering.generate import Row, Step, interleaved, stream
from steering.page import Pair, Picture, Written, marks, receipts
from steering.runs import Runs

EXAMPLES = [
    "The people next door are",
    "When the new family moved in, everyone",
    "I think that people who disagree with me",
    "The comments under the video said that",
    "My neighbour told me that women",
    "Nobody on this board understands why",
]
MARKS = [(0.0, "off"), (4.0, "weak"), (8.0, "medium"), (12.0, "strong"), (16.0, "most")]
REDRAW_SECONDS = 0.06
"""A new picture at most this often: 16 times a second reads as flowing, and spares the browser."""
BABBLE = (
    "Small models babble: the grammar holds, the sense does not. Watch the tone and the choice of words, not the "
    "facts. Pale words are the same in both texts; both draw the same random numbers, so they part only where steering "
    "changed the choice."
)
MARK_KEYS = Path(__file__).with_name("marks.js")
EMPTY = (
    '<div class="nothing">Press Generate, or let the slider go.<br>Plain and steered text grow here side by side.</div>'
)


@dataclass(frozen=True)
class Controls:
    """The components that a run reads, in the order of `asked`."""

    a: gr.Dropdown
    b: gr.Dropdown
    prompt: gr.Textbox
    sigmas: gr.Slider
    kind: gr.Radio
    probes: gr.Dropdown
    n_heads: gr.Number
    temperature: gr.Slider
    top_p: gr.Slider
    length: gr.Slider
    seed: gr.Number

    def all(self) -> list[Any]:
        return list(vars(self).values())


def build(bench: Bench, blocks: gr.Blocks) -> Menus:
    """Lay out the tab; gives its menus of checkpoints."""
    runs, ticket, last = Runs(), gr.State(0), gr.State(None)
    with gr.Row(elem_classes="desk"):
        with gr.Column(scale=5, min_width=320):
            controls, chosen, go, stop = _controls(bench)
        with gr.Column(scale=8, min_width=320):
            shown = gr.HTML(EMPTY, elem_id="runs", apply_default_css=False)
            gr.HTML(sentence(BABBLE), apply_default_css=False)
            masked = gr.Checkbox(True, label="Hide slurs and insults behind stars", elem_id="masked", container=False)
            receipt = gr.HTML("", elem_id="receipt", apply_default_css=False)
            as_command = gr.Textbox(
                label="Copy as command",
                placeholder="Comes with the first text.",
                interactive=False,
                lines=2,
                max_lines=8,
                buttons=["copy"],
                elem_id="command",
            )

    def ask(request: gr.Request) -> int:
        return runs.ask(session(request))

    def halt(request: gr.Request) -> None:
        runs.stop(session(request))

    def leave(request: gr.Request) -> None:
        runs.forget(session(request))

    @in_a_sentence
    def generate(ticket: int, a: str, b: str, prompt: str, sigmas: float, kind: str, probes: str,
                 n_heads: float | None, temperature: float, top_p: float, length: float, seed: float, masked: bool,
                 request: gr.Request) -> Iterator[tuple[Any, ...]]:  # fmt: skip
        sign = runs.begin(session(request), ticket)
        if sign is None:  # the session has asked for another run since
            yield (gr.skip(),) * 4
            return
        run = asked(bench, a, b, prompt, sigmas, kind, probes, n_heads, temperature, top_p, length, seed)
        mask, repeat = mask_for(masked), command(run, bench)
        for picture in grow(bench, run, sign):
            yield picture.to_html(mask), picture.receipt, repeat, picture

    asking = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    gr.on([go.click, controls.prompt.submit, controls.sigmas.release, chosen.click], ask, None, ticket, **asking).then(
        generate,
        [ticket, *controls.all(), masked],
        [shown, receipt, as_command, last],
        api_name="generate",
        concurrency_id=DEVICE_QUEUE,
        concurrency_limit=1,
        trigger_mode="multiple",
        preprocess=False,  # `asked` checks everything, and in words of ours
        show_progress="minimal",
        show_progress_on=shown,
    )
    stop.click(halt, None, None, **asking)
    masked.change(redrawn, [last, masked], shown, **asking)
    blocks.unload(leave)
    return Menus(controls.a, controls.b)


def _controls(bench: Bench) -> tuple[Controls, gr.HTML, gr.Button, gr.Button]:
    with gr.Row():
        chosen = menus(bench, first_choice(bench), NOBODY)
    prompt = gr.Textbox(
        EXAMPLES[0], label="Prompt", lines=2, max_lines=6, max_length=PROMPT_CHARACTERS, elem_id="prompt"
    )
    gr.Examples([[text] for text in EXAMPLES], prompt, label="Or begin with", api_visibility="private")
    sigmas = gr.Slider(
        0, MOST_SIGMAS, 8, step=0.5, label="Strength, in standard deviations", elem_id="strength", buttons=[]
    )
    strengths = gr.HTML(marks(MARKS, MOST_SIGMAS), js_on_load=MARK_KEYS.read_text(), apply_default_css=False,
                        elem_id="marks")  # fmt: skip
    with gr.Row():
        go = gr.Button("Generate", variant="primary", elem_id="generate", min_width=120)
        stop = gr.Button("Stop", elem_id="stop", min_width=80, scale=0)
    with gr.Accordion("More settings", open=False):
        kind = gr.Radio([(label, kind) for kind, label in KINDS.items()], value="mass-mean", label="Direction")
        with gr.Row():
            probes = probe_menu(bench)
            n_heads = gr.Number(
                0, label="Heads (0: 30, or 12 % of few)", precision=0, minimum=0, maximum=MOST_HEADS, min_width=100
            )
        with gr.Row():
            temperature = gr.Slider(0, 2, 1, step=0.05, label="Temperature", min_width=120, buttons=[])
            top_p = gr.Slider(0.05, 1, 0.9, step=0.05, label="Top-p", min_width=120, buttons=[])
        with gr.Row():
            length = gr.Slider(1, MOST_TOKENS, 40, step=1, label="Length, in tokens", min_width=120, buttons=[])
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MOST_SEED, min_width=100)
    controls = Controls(chosen.a, chosen.b, prompt, sigmas, kind, probes, n_heads, temperature, top_p, length, seed)
    return controls, strengths, go, stop


def first_choice(bench: Bench) -> str | None:
    """The paper's best mix, about 10 % toxic, where shares are known; else whatever comes first."""
    found = bench.catalogue
    away = {name: abs(c.toxic_share - 0.10) for name, c in found.items() if c.toxic_share is not None}
    return min(away, key=lambda name: away[name]) if away else next(iter(found), None)


def grow(bench: Bench, run: Asked, sign: Event) -> Iterator[Picture]:
    """The run's pictures as its texts grow, a few a second; the last one when all is written or stopped."""
    try:
        found = [ProbeSet.load(checkpoint, run.plan.probes) for checkpoint in run.checkpoints]
    except NoProbes as error:
        raise Refused(f"{error} Or fit some in the Probes tab.") from error
    strength = (
        f"{run.sigmas:g} σ {'along random directions' if run.plan.kind == 'random' else f'to {found[0].classes[1]}'}"
    )
    rows = (Row(run.prompt, 0.0), Row(run.prompt, run.sigmas))
    drawn, steps = 0.0, list[Step]()
    with bench.pool.lenses(run.checkpoints) as lenses:
        streams = [
            stream(lens, rows, run.plan.directions(probes), run.sampling, run.plan.positions, sign, run.plan)
            for lens, probes in zip(lenses, found, strict=True)
        ]
        for steps in interleaved(streams):
            if time.monotonic() - drawn >= REDRAW_SECONDS:
                drawn = time.monotonic()
                yield _picture(run, steps, strength, over=False)
    if steps:
        yield _picture(run, steps, strength, over=True)


def _picture(run: Asked, steps: list[Step], strength: str, over: bool) -> Picture:
    shown = tuple(
        Pair(checkpoint.name, about(checkpoint), _written(step, 0, over), _written(step, 1, over))
        for checkpoint, step in zip(run.checkpoints, steps, strict=False)  # stopped early, one may have no step yet
    )
    return Picture(run.prompt, shown, strength, receipts([step.receipts[1] for step in steps], run.plan))


def _written(step: Step, row: int, over: bool) -> Written:
    return Written(step.texts[row], step.n_tokens[row], over or step.done[row])


def redrawn(last: Picture | None, masked: bool) -> Any:
    """The same texts with or without stars."""
    return gr.skip() if last is None else last.to_html(mask_for(masked))


def session(request: gr.Request) -> str:
    return request.session_hash or ""
