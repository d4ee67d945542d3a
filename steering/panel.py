"""The steering tab: plain and steered text of one checkpoint or two, growing side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import gradio as gr

from lens.bench import Bench
from lens.panel import DEVICE_QUEUE, Menus, in_a_sentence, is_a_sentence, sentence
from lens.shown_paths import without_folders
from lens.validate import one_of, whole
from probes.views import fitting_set, mask_for, names_of_sets
from steering.asked import MOST_SEED, asked, command, digest
from steering.desk_panel import (
    EXAMPLES,
    NATS,
    FirstControls,
    Settings,
    controls_of,
    first_controls,
    named_methods,
    settings,
)
from steering.methods.table import METHODS
from steering.page import Picture, Scoring, marks, problem
from steering.recent import Recent
from steering.runs import Runs
from steering.scale import reaching
from steering.views import Stopped, grow, methods_for, spend

BABBLE = (
    "Small models babble: the grammar holds, the sense does not. Watch the tone and the choice of words, not the "
    "facts. Pale words are the same in both texts; both draw the same random numbers, so they part only where steering "
    "changed the choice."
)
EMPTY = (
    '<div class="nothing">Press Generate, or let the slider go.<br>Plain and steered text grow here side by side.</div>'
)
UNSAID = "That did not work, and there is no sentence for it here; the terminal of the server says more. Try it again."
RUNS = Path(__file__).with_name("runs.js")
TELL_SETTINGS = """(...values) => {
  document.dispatchEvent(new CustomEvent("hormesis:settings", { detail: values }));
}"""
"""For runs.js."""
ON_DEVICE: dict[str, Any] = {
    "concurrency_id": DEVICE_QUEUE,
    "concurrency_limit": 1,
    "trigger_mode": "multiple",
    "preprocess": False,  # `asked` checks everything, and in words of ours
}
PRIVATE = {"api_visibility": "private"}
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", **PRIVATE}


@dataclass(frozen=True)
class Sheet:
    """Everything on the right-hand side."""

    problem: gr.HTML
    shown: gr.HTML
    masked: gr.Checkbox
    receipt: gr.HTML
    as_command: gr.Textbox


@dataclass(frozen=True)
class Visitors:
    """What is remembered of visitors while their pages are open: their newest run, and what it showed."""

    runs: Runs
    pictures: Recent[Picture]
    problems: Recent[str]

    def forget(self, session: str) -> None:
        self.runs.forget(session)
        self.pictures.forget(session)
        self.problems.forget(session)

    @contextmanager
    def noting_problems(self, session: str) -> Iterator[None]:
        """Keep the sentence of an error, for it should stay on the page when its toast has gone."""
        try:
            yield
        except Exception as error:
            self.problems.keep(session, without_folders(str(error)) if is_a_sentence(error) else UNSAID)
            raise


def build(bench: Bench, blocks: gr.Blocks, tab: gr.Tab, scoring: Scoring | None = None) -> Menus:
    """Lay out the tab; gives its menus of checkpoints. With `scoring`, each text gets a score."""
    with gr.Row(elem_classes="steer"):
        with gr.Column(min_width=0, elem_id="first"):
            first = first_controls(bench)
        with gr.Column(min_width=0, elem_id="sheet"):
            sheet = _sheet(scoring)
        with gr.Column(min_width=0, elem_id="settings"):
            more = settings(bench)
    controls = controls_of(first, more)
    visitors = Visitors(Runs(), Recent(), Recent())
    _bind_runs(bench, visitors, first, more, sheet, scoring)
    _bind_settings(bench, blocks, tab, first, more)
    for control in vars(controls).values():
        control.change(None, list(vars(controls).values()), None, js=TELL_SETTINGS, trigger_mode="multiple", **AT_ONCE)

    def redrawn(masked: bool, request: gr.Request) -> Any:
        """The same texts with or without stars."""
        last = visitors.pictures.get(session(request))
        return gr.skip() if last is None else last.to_html(mask_for(masked))

    def leave(request: gr.Request) -> None:
        visitors.forget(session(request))

    sheet.masked.change(redrawn, sheet.masked, sheet.shown, preprocess=False, **AT_ONCE)
    blocks.unload(leave)
    return Menus(controls.a, controls.b)


def _sheet(scoring: Scoring | None) -> Sheet:
    """The texts, whether slurs are hidden, the receipt, and the same run as a command."""
    problem = gr.HTML("", elem_id="problem", apply_default_css=False)
    shown = gr.HTML(EMPTY, js_on_load=RUNS.read_text(), elem_id="runs", apply_default_css=False)
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
    return Sheet(problem, shown, masked, receipt, as_command)


def _bind_runs(
    bench: Bench, visitors: Visitors, first: FirstControls, more: Settings, sheet: Sheet, scoring: Scoring | None
) -> None:
    """Everything that starts, stops and shows a run."""
    controls, ticket, spent = controls_of(first, more), gr.State(0), gr.State(0)
    generate, calibrated = _generator(bench, visitors, scoring), _calibrator(bench, visitors)

    def ask(request: gr.Request) -> tuple[int, str]:
        return visitors.runs.ask(session(request)), ""

    def halt(request: gr.Request) -> None:
        visitors.runs.stop(session(request))

    def say_problem(request: gr.Request) -> str:
        return problem(visitors.problems.get(session(request)) or UNSAID)

    def run_after(event: Any, ticket: gr.State, api: dict[str, str]) -> None:
        written = event.success(
            generate,
            [ticket, sheet.masked],
            [sheet.shown, sheet.receipt, sheet.as_command],
            inputs_kwargs=vars(controls),
            show_progress_on=sheet.shown,
            **ON_DEVICE,
            **api,
        )
        written.failure(say_problem, None, sheet.problem, **AT_ONCE)

    asks: dict[str, Any] = {"outputs": [ticket, sheet.problem], **AT_ONCE}
    starts = [first.go.click, first.strength.release, first.marks.click, more.seed.submit, more.layers.submit]
    run_after(gr.on(starts, ask, None, **asks), ticket, {"api_name": "generate"})
    another = first.another.click(next_seed, more.seed, more.seed, preprocess=False, **AT_ONCE)
    run_after(another.success(ask, None, **asks), ticket, PRIVATE)
    found = gr.on([more.spend.click, more.nats.submit], ask, None, **asks).then(
        calibrated,
        [ticket, more.nats],
        [first.strength, first.marks, more.note, spent],
        inputs_kwargs=vars(controls),
        show_progress_on=more.note,
        **PRIVATE,
        **ON_DEVICE,
    )
    found.failure(say_problem, None, sheet.problem, **AT_ONCE)
    run_after(found, spent, PRIVATE)  # its own ticket: whoever asked for another run meanwhile gets that one alone
    first.stop.click(halt, None, None, **AT_ONCE)


def _generator(bench: Bench, visitors: Visitors, scoring: Scoring | None) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """The callback that writes: texts, receipt and command, a few times a second."""

    @in_a_sentence
    def generate(
        ticket: int,
        masked: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (Gradio reads the default)
        **given: Any,
    ) -> Iterator[tuple[Any, ...]]:
        me = session(request)
        sign = visitors.runs.begin(me, ticket)
        if sign is None:  # the session has asked for another run since
            yield (gr.skip(),) * 3
            return
        with suppress(Stopped), visitors.noting_problems(me):
            run = asked(bench, **given)
            mask, repeat, made_with = mask_for(masked), command(run, bench), digest(given)
            for picture in grow(bench, run, sign, fitting(progress), scoring):
                picture = replace(picture, made_with=made_with)
                visitors.pictures.keep(me, picture)
                yield picture.to_html(mask), picture.receipt, repeat

    return generate


def _calibrator(bench: Bench, visitors: Visitors) -> Callable[..., tuple[Any, Any, Any, int]]:
    """The callback that finds a strength: the slider, its marks, a sentence, and the ticket of the run behind it."""

    @in_a_sentence
    def calibrated(
        ticket: int,
        nats: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
        **given: Any,
    ) -> tuple[Any, Any, Any, int]:
        me = session(request)
        sign = visitors.runs.begin(me, ticket)
        if sign is None:
            return gr.skip(), gr.skip(), gr.skip(), ticket
        tries = count(1)

        def tried(strength: float, kl: float) -> None:
            progress((next(tries), None), unit="strengths tried")

        try:
            with visitors.noting_problems(me):
                run = asked(bench, **given)
                strength, words = spend(bench, run, nats, sign, fitting(progress), tried)
        except Stopped:
            return gr.skip(), gr.skip(), sentence("Stopped; the strength is as it was."), ticket
        scale = reaching(run.plan.rule.slider, strength)
        slider = gr.update(value=strength, maximum=scale.most, step=scale.step)
        return slider, marks(scale), sentence(words), ticket

    return calibrated


def _bind_settings(bench: Bench, blocks: gr.Blocks, tab: gr.Tab, first: FirstControls, more: Settings) -> None:
    """What one control makes of others."""

    @in_a_sentence
    def menus_for(a: str | None, b: str | None, method: str, probes: str) -> tuple[Any, Any]:
        choices = methods_for(bench, [a, b])
        method = method if method in choices else choices[0]
        return (
            gr.update(choices=named_methods(choices), value=method),
            gr.update(choices=names_of_sets(bench), value=fitting_set(bench, [a, b], probes)),
        )

    method, where = more.method, more.where
    more.examples.click(example, more.examples, first.prompt, preprocess=False, **AT_ONCE)
    method.change(on_method, method, [first.strength, first.marks, more.note], preprocess=False, **AT_ONCE)
    follows = [where, more.kind, more.probes, more.heads, more.layers, more.gate, more.spending]
    gr.on([method.change, where.input], settle, [method, where], follows, preprocess=False, **AT_ONCE)
    gr.on(
        [first.a.change, first.b.change, tab.select, blocks.load],  # probes may have been fitted in another tab
        menus_for,
        [first.a, first.b, method, more.probes],
        [method, more.probes],
        preprocess=False,
        **AT_ONCE,
    )


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
        gr.update(visible=len(places) > 1, value=site if len(places) > 1 else ""),
        _acting(METHODS[method].along, "mass-mean"),
        gr.update(visible=bool(site)),
        _acting(site == "heads", ""),
        _acting(site == "residual", ""),
        _acting(bool(site), 0),
        gr.update(visible=bool(site)),
    )


@in_a_sentence
def example(number: Any) -> str:
    """The prompt that was chosen from those offered."""
    return EXAMPLES[whole(number, "the number of the example", 0, len(EXAMPLES) - 1)]


def next_seed(seed: Any) -> int:
    """Another seed than this one; small, so that it can be read out."""
    usual = isinstance(seed, int) and 0 <= seed < MOST_SEED
    return seed + 1 if usual else 0


def _acting(acts: bool, untouched: Any) -> Any:
    """A control that is there, or one that is hidden and holds what changes nothing."""
    return gr.update(visible=True) if acts else gr.update(visible=False, value=untouched)


def fitting(progress: gr.Progress) -> Callable[[int, int], None]:
    """How far the fit of a method is that reads the texts once more."""
    return lambda done, total: progress(done / total, desc="Fitting")


def session(request: gr.Request) -> str:
    return request.session_hash or ""
