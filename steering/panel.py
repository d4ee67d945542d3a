"""The steering tab: plain and steered text of one checkpoint or two, growing side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import gradio as gr

from lens.bench import NOBODY, Bench
from lens.panel import DEVICE_QUEUE, Menus, in_a_sentence, menus, sentence
from lens.validate import one_of
from probes.panel import probe_menu
from probes.views import mask_for
from steering.asked import KINDS, MOST_SEED, MOST_TOKENS, PLACES, PROMPT_CHARACTERS, asked, command
from steering.methods.table import METHODS, menu_label
from steering.page import Picture, Scoring, marks
from steering.plan import BAND
from steering.runs import Runs
from steering.scale import reaching
from steering.views import MOST_NATS, Stopped, first_choice, grow, methods_for, spend

EXAMPLES = [
    "The people next door are",
    "When the new family moved in, everyone",
    "I think that people who disagree with me",
    "The comments under the video said that",
    "My neighbour told me that women",
    "Nobody on this board understands why",
]
BABBLE = (
    "Small models babble: the grammar holds, the sense does not. Watch the tone and the choice of words, not the "
    "facts. Pale words are the same in both texts; both draw the same random numbers, so they part only where steering "
    "changed the choice."
)
NATS = "Nats per token say how far steering moves the model's predictions on ordinary text, whatever the method."
MARK_KEYS = Path(__file__).with_name("marks.js")
EMPTY = (
    '<div class="nothing">Press Generate, or let the slider go.<br>Plain and steered text grow here side by side.</div>'
)
ON_DEVICE: dict[str, Any] = {
    "concurrency_id": DEVICE_QUEUE,
    "concurrency_limit": 1,
    "trigger_mode": "multiple",
    "preprocess": False,  # `asked` checks everything, and in words of ours
}
PRIVATE = {"api_visibility": "private"}
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", **PRIVATE}


@dataclass(frozen=True)
class Controls:
    """The components that a run reads, by the names that `asked` gives them."""

    a: gr.Dropdown
    b: gr.Dropdown
    prompt: gr.Textbox
    method: gr.Dropdown
    strength: gr.Slider
    kind: gr.Radio
    probes: gr.Dropdown
    heads: gr.Dropdown
    layers: gr.Textbox
    where: gr.Radio
    gate: gr.Slider
    temperature: gr.Slider
    top_p: gr.Slider
    length: gr.Slider
    seed: gr.Number


@dataclass(frozen=True)
class Desk:
    """Everything on the left-hand side."""

    controls: Controls
    marks: gr.HTML
    spending: gr.Row
    nats: gr.Number
    spend: gr.Button
    note: gr.HTML
    go: gr.Button
    stop: gr.Button


def build(bench: Bench, blocks: gr.Blocks, scoring: Scoring | None = None) -> Menus:
    """Lay out the tab; gives its menus of checkpoints. With `scoring`, each text gets a score."""
    runs, ticket, spent, last = Runs(), gr.State(0), gr.State(0), gr.State(None)
    with gr.Row(elem_classes="desk"):
        with gr.Column(scale=5, min_width=320):
            desk = _desk(bench)
        with gr.Column(scale=8, min_width=320):
            shown, masked, receipt, as_command = _sheet(scoring)
    controls = desk.controls

    def ask(request: gr.Request) -> int:
        return runs.ask(session(request))

    def halt(request: gr.Request) -> None:
        runs.stop(session(request))

    def leave(request: gr.Request) -> None:
        runs.forget(session(request))

    @in_a_sentence
    def generate(
        ticket: int,
        masked: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio reads the default)
        **given: Any,
    ) -> Iterator[tuple[Any, ...]]:
        sign = runs.begin(session(request), ticket)
        if sign is None:  # the session has asked for another run since
            yield (gr.skip(),) * 4
            return
        run = asked(bench, **given)
        mask, repeat = mask_for(masked), command(run, bench)
        with suppress(Stopped):
            for picture in grow(bench, run, sign, fitting(progress), scoring):
                yield picture.to_html(mask), picture.receipt, repeat, picture

    @in_a_sentence
    def calibrated(
        ticket: int,
        nats: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        **given: Any,
    ) -> tuple[Any, Any, Any, int]:
        """The slider, its marks, a sentence, and the ticket that the run behind it shows."""
        sign = runs.begin(session(request), ticket)
        if sign is None:
            return gr.skip(), gr.skip(), gr.skip(), ticket
        run, tries = asked(bench, **given), count(1)

        def tried(strength: float, kl: float) -> None:
            progress((next(tries), None), unit="strengths tried")

        try:
            strength, words = spend(bench, run, nats, sign, fitting(progress), tried)
        except Stopped:
            return gr.skip(), gr.skip(), sentence("Stopped; the strength is as it was."), ticket
        scale = reaching(run.plan.rule.slider, strength)
        slider = gr.update(value=strength, maximum=scale.most, step=scale.step)
        return slider, marks(scale), sentence(words), ticket

    @in_a_sentence
    def menu(a: str | None, b: str | None, method: str) -> Any:
        choices = methods_for(bench, [a, b])
        return gr.update(choices=_named(choices), value=method if method in choices else choices[0])

    def run_after(event: Any, ticket: gr.State, api: dict[str, str]) -> None:
        event.success(
            generate,
            [ticket, masked],
            [shown, receipt, as_command, last],
            inputs_kwargs=vars(controls),
            show_progress="minimal",
            show_progress_on=shown,
            **ON_DEVICE,
            **api,
        )

    starts = [desk.go.click, controls.prompt.submit, controls.strength.release, desk.marks.click]
    run_after(gr.on(starts, ask, None, ticket, **AT_ONCE), ticket, {"api_name": "generate"})
    found = gr.on([desk.spend.click, desk.nats.submit], ask, None, ticket, **AT_ONCE).then(
        calibrated,
        [ticket, desk.nats],
        [controls.strength, desk.marks, desk.note, spent],
        inputs_kwargs=vars(controls),
        show_progress_on=desk.note,
        **PRIVATE,
        **ON_DEVICE,
    )
    run_after(found, spent, PRIVATE)  # its own ticket: whoever asked for another run meanwhile gets that one alone
    desk.stop.click(halt, None, None, **AT_ONCE)
    masked.change(redrawn, [last, masked], shown, **AT_ONCE)
    method, where, strength = controls.method, controls.where, controls.strength
    method.change(on_method, method, [strength, desk.marks, desk.note], **AT_ONCE)
    follows = [where, controls.kind, controls.probes, controls.heads, controls.layers, controls.gate, desk.spending]
    gr.on([method.change, where.input], settle, [method, where], follows, **AT_ONCE)
    gr.on([controls.a.change, controls.b.change], menu, [controls.a, controls.b, method], method, **AT_ONCE)
    blocks.unload(leave)
    return Menus(controls.a, controls.b)


def _sheet(scoring: Scoring | None) -> tuple[gr.HTML, gr.Checkbox, gr.HTML, gr.Textbox]:
    """The texts, whether slurs are hidden, the receipt, and the same run as a command."""
    shown = gr.HTML(EMPTY, elem_id="runs", apply_default_css=False)
    gr.HTML(sentence(BABBLE) + (sentence(scoring.about) if scoring else ""), apply_default_css=False)
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
    return shown, masked, receipt, as_command


def _desk(bench: Bench) -> Desk:
    scale = METHODS["iti"].slider
    with gr.Row():
        chosen = menus(bench, first_choice(bench), NOBODY)
    prompt = gr.Textbox(
        EXAMPLES[0], label="Prompt", lines=2, max_lines=6, max_length=PROMPT_CHARACTERS, elem_id="prompt"
    )
    gr.Examples([[text] for text in EXAMPLES], prompt, label="Or begin with", api_visibility="private")
    method = gr.Dropdown(
        _named(methods_for(bench, [first_choice(bench)])), value="iti", label="Method", filterable=False
    )
    strength = gr.Slider(0, scale.most, scale.start, step=scale.step, label=scale.label, elem_id="strength", buttons=[])
    strengths = gr.HTML(marks(scale), js_on_load=MARK_KEYS.read_text(), apply_default_css=False, elem_id="marks")
    with gr.Row(elem_id="spending") as spending:
        nats = gr.Number(
            0.1, label="Or what it may cost, in nats per token", minimum=0, maximum=MOST_NATS, step=0.01, min_width=160
        )
        spend_it = gr.Button("Spend", elem_id="spend", min_width=80, scale=0)
    note = gr.HTML(sentence(NATS), apply_default_css=False, elem_id="note")
    with gr.Row():
        go = gr.Button("Generate", variant="primary", elem_id="generate", min_width=120)
        stop = gr.Button("Stop", elem_id="stop", min_width=80, scale=0)
    with gr.Accordion("More settings", open=False):
        kind = gr.Radio([(label, kind) for kind, label in KINDS.items()], value="mass-mean", label="Direction")
        probes = probe_menu(bench)
        where = gr.Radio([(label, place) for place, label in PLACES.items()], value=None, label="Where", visible=False)
        heads = gr.Dropdown(
            [("The best 12 %, or 30 of many", ""), ("All above the null band", BAND)],
            value="",
            label="Heads",
            info="Or write how many, or which: L3H7 L5H0",
            allow_custom_value=True,
        )
        layers = gr.Textbox("", label="Layers", placeholder="The method's own; or by number: 2 3", visible=False)
        gate = gr.Slider(
            0, 1, 0, step=0.05, label="Gate: only where the probe is surer than this (0: everywhere)", buttons=[]
        )
        with gr.Row():
            temperature = gr.Slider(0, 2, 1, step=0.05, label="Temperature", min_width=120, buttons=[])
            top_p = gr.Slider(0.05, 1, 0.9, step=0.05, label="Top-p", min_width=120, buttons=[])
        with gr.Row():
            length = gr.Slider(1, MOST_TOKENS, 40, step=1, label="Length, in tokens", min_width=120, buttons=[])
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MOST_SEED, min_width=100)
    controls = Controls(chosen.a, chosen.b, prompt, method, strength, kind, probes, heads, layers, where, gate,
                        temperature, top_p, length, seed)  # fmt: skip
    return Desk(controls, strengths, spending, nats, spend_it, note, go, stop)


@in_a_sentence
def on_method(method: str) -> tuple[Any, ...]:
    """The slider in the method's own unit."""
    scale = METHODS[one_of(method, "the method", list(METHODS))].slider
    slider = gr.update(label=scale.label, maximum=scale.most, step=scale.step, value=scale.start)
    return slider, marks(scale), sentence(NATS)


@in_a_sentence
def settle(method: str, where: str | None) -> tuple[Any, ...]:
    """Show what acts on this method; what does not is hidden, and as if it had never been touched."""
    places = METHODS[one_of(method, "the method", list(METHODS))].where
    site = where if where in places else next(iter(places), None)
    return (
        gr.update(visible=len(places) > 1, value=site if len(places) > 1 else None),
        _acting(METHODS[method].along, "mass-mean"),
        gr.update(visible=bool(site)),
        _acting(site == "heads", ""),
        _acting(site == "residual", ""),
        _acting(bool(site), 0),
        gr.update(visible=bool(site)),
    )


def _named(methods: list[str]) -> list[tuple[str, str]]:
    """Methods as the menu shows them."""
    return [(menu_label(method), method) for method in methods]


def _acting(acts: bool, untouched: Any) -> Any:
    """A control that is there, or one that is hidden and holds what changes nothing."""
    return gr.update(visible=True) if acts else gr.update(visible=False, value=untouched)


def fitting(progress: gr.Progress) -> Callable[[int, int], None]:
    """How far the fit of a method is that reads the texts once more."""
    return lambda done, total: progress(done / total, desc="Fitting")


def redrawn(last: Picture | None, masked: bool) -> Any:
    """The same texts with or without stars."""
    return gr.skip() if last is None else last.to_html(mask_for(masked))


def session(request: gr.Request) -> str:
    return request.session_hash or ""
