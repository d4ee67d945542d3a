"""What the steering tab asks of the package, one call per thing that is shown; each works without a browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from threading import Event
from typing import Any

from lens import Checkpoint, Lens
from lens.bench import NOBODY, Bench, about
from lens.validate import Refused, number
from probes.probe import ProbeSet
from probes.store import NoProbes
from steering.asked import Asked
from steering.calibrate import calibrate
from steering.cost import EVERY_POSITION
from steering.dose import Steering
from steering.generate import Row, Step, interleaved, stream
from steering.methods.fitting import fit
from steering.methods.table import METHODS
from steering.notes import ending_note
from steering.page import Pair, Picture, Scoring, Written, receipts
from steering.scale import title
from steering.store import NoFit

REDRAW_SECONDS = 0.06
"""A new picture at most this often: 16 times a second reads as flowing, and spares the browser."""
MOST_NATS = 10.0
OnProgress = Callable[[int, int], None]
OnTry = Callable[[float, float], None]
"""Told a strength that was tried, and what it costs."""


class Stopped(RuntimeError):
    """The visitor pressed Stop, or asked for something else."""


def first_choice(bench: Bench) -> str | None:
    """The paper's best mix, about 10 % toxic, where shares are known; else whatever comes first."""
    found = bench.catalogue
    away = {name: abs(c.toxic_share - 0.10) for name, c in found.items() if c.toxic_share is not None}
    return min(away, key=lambda name: away[name]) if away else next(iter(found), None)


def methods_for(bench: Bench, names: Sequence[str | None]) -> list[str]:
    """Methods that suit all the chosen checkpoints: a prefix only where each was trained with one."""
    chosen: list[Checkpoint | None] = [bench.checkpoint(name) for name in names if name not in (None, NOBODY)]
    return [key for key, method in METHODS.items() if all(map(method.suits, chosen or [None]))]


def until(sign: Event, on_progress: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """The same progress, which ends the work once the sign is set."""

    def report(done: Any, total: Any) -> None:
        if sign.is_set():
            raise Stopped
        on_progress(done, total)

    return report


def grow(
    bench: Bench, run: Asked, sign: Event, on_progress: OnProgress, scoring: Scoring | None = None
) -> Iterator[Picture]:
    """The run's pictures as its texts grow, a few a second; the last one when all is written or stopped."""
    drawn, steps, strength = 0.0, list[Step | None](), title(run.plan, run.strength, _target(run))
    with bench.pool.lenses(run.checkpoints) as lenses:
        fitted = [fitted_to(lens, run, until(sign, on_progress)) for lens in lenses]
        prefixes = [steering.prefix for steering in fitted]
        streams = [
            stream(lens, [Row(run.prompt), Row(run.prompt, steering.at(run.strength))], run.sampling, sign)
            for lens, steering in zip(lenses, fitted, strict=True)
        ]
        for steps in interleaved(streams):
            if time.monotonic() - drawn >= REDRAW_SECONDS:
                drawn = time.monotonic()
                yield scored(_picture(run, steps, strength, prefixes, over=False), scoring)
    if steps:
        yield scored(_picture(run, steps, strength, prefixes, over=True), scoring)


def fitted_to(lens: Lens, run: Asked, on_progress: OnProgress) -> Steering:
    """The run's plan, fitted to one checkpoint. Fits of chosen heads or layers are not kept: visitors have many."""
    usual = run.plan.heads is None and not run.plan.layers
    try:
        return fit(run.plan, lens, on_progress=on_progress, keep=usual)
    except NoFit as error:
        raise Refused(f"{error} Or choose the built-in probes, whose texts are here.") from error


def spend(
    bench: Bench, run: Asked, nats: Any, sign: Event, on_progress: OnProgress, on_try: OnTry
) -> tuple[float, str]:
    """The strength that costs the first checkpoint so many nats per token, and a sentence on it."""
    _target(run)
    asked_for = number(nats, "the cost in nats per token", 0, MOST_NATS)
    name = run.checkpoints[0].name
    with bench.pool.lens(run.checkpoints[0]) as lens:
        steering = fitted_to(lens, run, until(sign, on_progress))
        found = calibrate(lens, steering, asked_for, on_progress=until(sign, on_try))
    return found.strength, (
        f"{run.plan.rule.name} at {found.strength:g} costs {name} {found.kl:.3g} nats per token on ordinary text with "
        f"{EVERY_POSITION}; on text that was held out {found.held_out:.3g}."
    )


def _target(run: Asked) -> str:
    """The class that positive strengths lead to; refused before anything is opened where probes are missing."""
    if run.plan.site is None:
        return ""
    try:
        found = [ProbeSet.load(checkpoint, run.plan.probes) for checkpoint in run.checkpoints]
    except NoProbes as error:
        raise Refused(f"{error} Or fit some in the Probes tab.") from error
    return found[0].classes[1]


def _picture(run: Asked, steps: list[Step | None], strength: str, prefixes: list[str], over: bool) -> Picture:
    """Stopped early, a checkpoint may have no step yet: it is left out."""
    known = [place for place, step in enumerate(steps) if step is not None]
    begun = [step for step in steps if step is not None]
    shown = tuple(
        Pair(checkpoint.name, about(checkpoint), _written(step, 0, over), _written(step, 1, over))
        for checkpoint, step in zip((run.checkpoints[place] for place in known), begun, strict=True)
    )
    done = receipts([step.receipts[1] for step in begun], [prefixes[place] for place in known])
    return Picture(run.prompt, shown, strength, done)


def scored(picture: Picture, scoring: Scoring | None) -> Picture:
    """The picture with a score at each text."""
    if scoring is None:
        return picture
    texts = [written.text for pair in picture.pairs for written in (pair.plain, pair.steered)]
    scores = iter(scoring.score(texts))
    pairs = [
        replace(pair, plain=replace(pair.plain, score=next(scores)), steered=replace(pair.steered, score=next(scores)))
        for pair in picture.pairs
    ]
    return replace(picture, pairs=tuple(pairs), scored_by=scoring.about)


def _written(step: Step, row: int, over: bool) -> Written:
    cut = ending_note(step.ended[row], step.n_context)
    return Written(step.texts[row], step.n_tokens[row], over or step.done[row], cut=cut)
