"""The controls of the steering tab: what is asked first, and the settings that follow."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import gradio as gr

from lens.bench import NOBODY, Bench
from lens.panel import menus, sentence
from probes.panel import probe_menu
from steering.asked import KINDS, MOST_SEED, MOST_TOKENS, PLACES, PROMPT_CHARACTERS
from steering.methods.table import METHODS, menu_label
from steering.page import marks
from steering.plan import BAND
from steering.views import MOST_NATS, first_choice, methods_for

EXAMPLES = [
    "The people next door are",
    "When the new family moved in, everyone",
    "I think that people who disagree with me",
    "The comments under the video said that",
    "My neighbour told me that women",
    "Nobody on this board understands why",
]
ENTER = "Enter writes the texts, Shift+Enter starts a new line."
NATS = "Nats per token say how far steering moves the model's predictions on ordinary text, whatever the method."
MARK_KEYS = Path(__file__).with_name("marks.js")
PROMPT_KEYS = Path(__file__).with_name("prompt.js")


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
class FirstControls:
    """What is asked first: whose text, how it begins, how strongly it is steered, and the buttons."""

    a: gr.Dropdown
    b: gr.Dropdown
    prompt: gr.Textbox
    strength: gr.Slider
    marks: gr.HTML
    go: gr.Button
    another: gr.Button
    stop: gr.Button


@dataclass(frozen=True)
class Settings:
    """How it is steered, and all that has a usual value."""

    method: gr.Dropdown
    spending: gr.Row
    nats: gr.Number
    spend: gr.Button
    note: gr.HTML
    examples: gr.Dataset
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


def first_controls(bench: Bench) -> FirstControls:
    scale = METHODS["iti"].slider
    with gr.Row(elem_classes="pair-of-menus"):
        chosen = menus(bench, first_choice(bench), NOBODY)
    prompt = gr.Textbox(
        EXAMPLES[0], label="Prompt", lines=2, max_lines=6, max_length=PROMPT_CHARACTERS, elem_id="prompt"
    )
    gr.HTML(
        f'<p class="hint">{ENTER}</p>', js_on_load=PROMPT_KEYS.read_text(), apply_default_css=False, elem_id="enter"
    )
    with gr.Row(elem_id="go"):
        go = gr.Button("Generate", variant="primary", elem_id="generate", min_width=110, scale=2)
        another = gr.Button("Another sample", elem_id="another", min_width=140, scale=2)
        stop = gr.Button("Stop", elem_id="stop", min_width=64, scale=0)
    strength = gr.Slider(0, scale.most, scale.start, step=scale.step, label=scale.label, elem_id="strength", buttons=[])
    strengths = gr.HTML(marks(scale), js_on_load=MARK_KEYS.read_text(), apply_default_css=False, elem_id="marks")
    return FirstControls(chosen.a, chosen.b, prompt, strength, strengths, go, another, stop)


def settings(bench: Bench) -> Settings:
    method = gr.Dropdown(
        named_methods(methods_for(bench, [first_choice(bench)])), value="iti", label="Method", filterable=False
    )
    with gr.Row(elem_id="spending") as spending:
        nats = gr.Number(
            0.1, label="Or what it may cost, in nats per token", minimum=0, maximum=MOST_NATS, step=0.01, min_width=160
        )
        spend = gr.Button("Spend", elem_id="spend", min_width=80, scale=0)
    note = gr.HTML(sentence(NATS), apply_default_css=False, elem_id="note")
    examples = gr.Dataset(
        components=[gr.Textbox(visible=False)],
        samples=[[text] for text in EXAMPLES],
        type="index",
        label="Or begin with",
        elem_id="examples",
    )
    with gr.Accordion("More settings", open=False):
        kind = gr.Radio([(label, kind) for kind, label in KINDS.items()], value="mass-mean", label="Direction")
        probes = probe_menu(bench, [first_choice(bench)])
        # "" is the method's own place: a default that is None would make the API ask for it
        where = gr.Radio([(label, place) for place, label in PLACES.items()], value="", label="Where", visible=False)
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
    return Settings(method, spending, nats, spend, note, examples, kind, probes, heads, layers, where, gate,
                    temperature, top_p, length, seed)  # fmt: skip


def controls_of(first: FirstControls, more: Settings) -> Controls:
    named = vars(first) | vars(more)
    return Controls(**{field.name: named[field.name] for field in fields(Controls)})


def named_methods(methods: list[str]) -> list[tuple[str, str]]:
    """Methods as the menu shows them."""
    return [(menu_label(method), method) for method in methods]
