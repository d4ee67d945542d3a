"""Checkpoints × plans × prompts × seeds: a plan of units, of which those that are done are not done again."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from evaluation.plans import AskedPlan
from evaluation.prompts import PromptSet
from evaluation.results import Results, Row
from evaluation.unit import Bench, CostUnit, GenerationUnit, Subject, Unit, run
from lens.numeric import settle_numbers
from steering import Sampling

ROWS = 256
"""Texts that are written together, about: beyond, a token of the demo models costs no less (docs/performance.md)."""
CHARACTERS_PER_TOKEN = 60
"""Characters of a prompt that take as long to read as one token takes to write, about."""
TRIES = 15
"""Strengths that a calibration tries, about."""

Engine = Callable[[Sequence[Unit]], Iterator[list[Row]]]
"""Something that makes the rows of units, in any order."""


@dataclass(frozen=True)
class Progress:
    """How far a sweep has come."""

    done: float
    """Share of all work, in this run and before."""
    seconds_left: float | None
    """At the speed of this run; None before its first unit."""

    def __str__(self) -> str:
        if self.seconds_left is None:
            return f"{self.done:.1%} done"
        minutes, seconds = divmod(round(self.seconds_left), 60)
        return f"{self.done:.1%} done, {minutes // 60}:{minutes % 60:02}:{seconds:02} left"


@dataclass(frozen=True)
class Sweep:
    """Everything that is asked."""

    subjects: tuple[Subject, ...]
    plans: tuple[AskedPlan, ...]
    prompts: tuple[PromptSet, ...]
    seeds: tuple[int, ...]
    sampling: Sampling
    """Its own seed is replaced by each of `seeds`."""
    n_samples: int
    scorers: tuple[tuple[str, str, str], ...]
    """How each is asked for, its name and its version."""
    text_name: str
    text: str
    """What costs are measured on and nats are spent on."""

    def __post_init__(self) -> None:
        settle_numbers(self)
        if self.n_samples < 1:
            raise ValueError(f"n_samples is a number of texts from 1 up; got {self.n_samples}.")
        for what, names in (
            ("plans", [plan.label for plan in self.plans]),
            ("checkpoints", [subject.checkpoint for subject in self.subjects]),
            ("prompts", [prompts.name for prompts in self.prompts]),
            ("seeds", self.seeds),
            ("scorers", [name for _, name, _ in self.scorers]),
        ):
            for name, times in Counter(map(str, names)).items():
                if times > 1:
                    raise ValueError(f"The {what} name {name} twice, and results go by name. Give it once.")
            if not names:
                raise ValueError(f"A sweep without {what} measures nothing. Give at least one.")

    @property
    def described(self) -> dict[str, Any]:
        """What was asked, for `sweep.json`: names and digests in place of texts."""
        return {
            "checkpoints": [subject.named for subject in self.subjects],
            "plans": {plan.label: plan.described for plan in self.plans},
            "prompts": [{"name": one.name, "digest": one.digest, "n": len(one)} for one in self.prompts],
            "seeds": self.seeds,
            "sampling": {name: value for name, value in asdict(self.sampling).items() if name != "seed"},
            "n_samples": self.n_samples,
            "scorers": {name: version for _, name, version in self.scorers},
            "text": {"name": self.text_name, "digest": hashlib.sha256(self.text.encode()).hexdigest()},
            "texts_together": ROWS,  # where one unit ends: with other units, all would be done again
        }

    def costs(self) -> list[Unit]:
        """A unit for each checkpoint; they come first, because they find the strengths that nats buy."""
        return [CostUnit(subject, self.plans, self.text_name, self.text) for subject in self.subjects]

    def generations(self, strengths: dict[tuple[str, str], float | None]) -> list[Unit]:
        """All other units, a checkpoint's together; `strengths` are those of (fingerprint, plan)."""
        n = max(1, ROWS // (len(self.plans) * self.n_samples))
        units: list[Unit] = []
        for subject in self.subjects:
            plans = tuple(replace(one, strength=strengths[subject.fingerprint, one.label]) for one in self.plans)
            for asked in self.prompts:
                # of like length, so that little of a batch is padding
                prompts = sorted(asked.prompts, key=lambda prompt: (len(prompt.text), prompt.id))
                for first in range(0, len(prompts), n):
                    some = tuple(prompts[first : first + n])
                    for seed in self.seeds:  # one after the other, so that a worker reads the prompts once
                        sampling = replace(self.sampling, seed=seed)
                        about = asked.name, asked.digest, first, some, sampling, self.n_samples, self.scorers
                        units.append(GenerationUnit(subject, plans, *about))
        return units


def measure(
    sweep: Sweep,
    results: Results,
    engine: Engine,
    on_progress: Callable[[Progress], None] | None = None,
    made_with: Row | None = None,
) -> None:
    """Do what is not done yet; each unit is on the disk as soon as it is finished."""
    results.describe(sweep.described, made_with)
    costs = sweep.costs()
    unknown = sweep.generations({(one.fingerprint, p.label): None for one in sweep.subjects for p in sweep.plans})
    clock = _Clock([*costs, *unknown], on_progress)
    _finish(costs, results, engine, clock)
    strengths = {(row["fingerprint"], row["plan"]): row["strength"] for row in results.rows("cost")}
    _finish(sweep.generations(strengths), results, engine, clock)


def here(bench: Bench) -> Engine:
    """One after the other, in this process."""
    return lambda units: (run(unit, bench) for unit in units)


def _finish(units: Sequence[Unit], results: Results, engine: Engine, clock: _Clock) -> None:
    done = results.done()
    todo = {unit.id: unit for unit in units if not {(unit.id, plan.label) for plan in unit.plans} <= done}
    clock.skip([unit for unit in units if unit.id not in todo])
    for rows in engine(list(todo.values())):
        results.append(rows)
        clock.tick(todo[rows[0]["unit"]])


class _Clock:
    """Finished work, and from its speed the time that is left."""

    def __init__(self, units: Sequence[Unit], on_progress: Callable[[Progress], None] | None) -> None:
        self._total = sum(map(work, units))
        self._before = self._now = 0.0
        self._start, self._on_progress = time.monotonic(), on_progress

    def skip(self, units: Sequence[Unit]) -> None:
        self._before += sum(map(work, units))
        self._say()

    def tick(self, unit: Unit) -> None:
        self._now += work(unit)
        self._say()

    def _say(self) -> None:
        left = self._total - self._before - self._now
        speed = self._now / (time.monotonic() - self._start)
        if self._on_progress:
            self._on_progress(Progress(1 - left / self._total, left / speed if speed else None))


def work(unit: Unit) -> float:
    """How long a unit takes, about, in tokens that are written."""
    if isinstance(unit, CostUnit):
        passes = sum(TRIES if plan.nats else 1 for plan in unit.plans)
        return passes * len(unit.text) / CHARACTERS_PER_TOKEN
    assert isinstance(unit, GenerationUnit)
    per_prompt = [unit.sampling.max_tokens + len(one.text) / CHARACTERS_PER_TOKEN for one in unit.prompts]
    return sum(per_prompt) * unit.n_samples * len(unit.plans)
