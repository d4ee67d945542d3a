"""How a model answers multiple-choice questions, plain and steered: with the choice that it finds most probable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from evaluation.ability import Question, Task
from evaluation.likelihood import Line, log_likelihoods
from evaluation.results import Row
from evaluation.unit import Bench, CostUnit, calibrated
from lens import Lens
from lens.activations import CPU_BATCH, GPU_BATCH
from probes.differences import paired_difference
from probes.estimate import Difference, Estimate, wilson
from steering import Doses
from steering.batch import Row as TextRow

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class AbilityUnit(CostUnit):
    """A set of questions and all plans, whose nats are spent on the text: a unit of results."""

    task: Task


@dataclass(frozen=True, eq=False)
class Ability:
    """How one model, under some doses, answers one set of questions."""

    task: str
    correct: Bool[np.ndarray, " question"]
    chance: float
    """Share that a blind guess gets right."""
    n_left_out: int
    """Questions that do not fit into the context; whatever is compared leaves out the same ones."""
    digest: str
    """SHA-256 of the questions that were asked."""

    @property
    def accuracy(self) -> Estimate:
        """Share of questions answered right, with Wilson's interval."""
        return wilson(int(self.correct.sum()), len(self.correct))

    @property
    def at_chance(self) -> bool:
        """Whether the interval holds what guessing reaches."""
        return self.accuracy.holds(self.chance)

    @property
    def row(self) -> Row:
        """As it stands in results."""
        return {**asdict(self), "correct": self.correct.astype(int).tolist()}

    @classmethod
    def of(cls, row: Row) -> Ability:
        """What `row` wrote."""
        known = {field.name: row[field.name] for field in fields(cls)}
        return cls(**{**known, "correct": np.array(known["correct"], dtype=bool)})

    def __str__(self) -> str:
        return f"{self.accuracy}, guessing {self.chance:.3f}{' (chance)' * self.at_chance}"


def measured(units: Sequence[AbilityUnit], bench: Bench, on_progress: OnProgress | None = None) -> Iterator[list[Row]]:
    """The rows of one checkpoint's units, a unit at a time; `on_progress` hears the task, questions done and in all."""
    if not units:
        return
    subject = units[0].subject
    lens = bench.lens(subject)
    plans = calibrated(units[0], lens, bench)
    doses = [bench.doses(lens, one) for one in plans]
    for unit in units:
        about = {"kind": "ability", "unit": unit.id, **subject.named, "text": unit.text_name}
        found = abilities(lens, unit.task, doses, on_progress)
        yield [
            {**about, "plan": asked.label, "asked": asked.described, "strength": asked.strength, **one.row}
            for asked, one in zip(plans, found, strict=True)
        ]


def abilities(
    lens: Lens, task: Task, doses: Sequence[Doses] = ((),), on_progress: OnProgress | None = None
) -> list[Ability]:
    """The answers under each of some doses, to the questions that fit into the context under all of them."""
    every = zip(task.questions, *(_lines(lens, task.questions, one) for one in doses), strict=True)
    asked = [_Asked(question, lines) for question, *lines in every]
    fitting = [one for one in asked if one.length <= lens.n_context]
    if not fitting:
        raise ValueError(
            f"No question of {task.name} fits into the {lens.n_context} tokens that {lens.checkpoint.name} reads; the "
            f"shortest has {min(one.length for one in asked)}. Choose another task, such as arc_easy."
        )
    correct = np.zeros((len(doses), len(fitting)), dtype=bool)
    done = 0
    for batch in _batches(lens, fitting):
        correct[:, batch] = np.array(list(_answered(lens, task.metric, [fitting[place] for place in batch]))).T
        done += len(batch)
        if on_progress is not None:
            on_progress(task.name, done, len(fitting))
    sizes = [len(one.question.choices) for one in fitting]
    chance, digest = float(np.mean([1 / size for size in sizes])), _digest(task, fitting)
    return [Ability(task.name, row, chance, len(asked) - len(fitting), digest) for row in correct]


def difference(a: Ability, b: Ability, rng: np.random.Generator) -> Difference:
    """Accuracy of `a` minus that of `b`, question by question."""
    if a.digest != b.digest:
        raise ValueError(f"{a.task} and {b.task} hold different questions. Ask both the same, with the same --limit.")
    return paired_difference(a.correct, b.correct, rng)


class _Asked(NamedTuple):
    """A question as one model reads it."""

    question: Question
    lines: Sequence[Sequence[Line]]
    """[dose][choice]"""

    @property
    def length(self) -> int:
        """Tokens that are read of its longest line: all but the last, which is only predicted."""
        return max(len(line.context) + len(line.continuation) - 1 for one in self.lines for line in one)


def _lines(lens: Lens, questions: Sequence[Question], doses: Doses) -> Iterator[list[Line]]:
    """The tokens of every question's lines, with the words of the methods that ask in words in front."""
    contexts = lens.encode_all([TextRow(words, doses).read for one in questions for words in one.contexts])
    choices = lens.encode_all([words for one in questions for words in one.choices])
    lines = (Line(tuple(a), tuple(b), doses) for a, b in zip(contexts, choices, strict=True))
    return (list(islice(lines, len(one.choices))) for one in questions)


def _batches(lens: Lens, asked: Sequence[_Asked]) -> Iterator[list[int]]:
    """Questions of like length, as many at a time as the device is fastest with."""

    def positions(one: _Asked) -> int:
        return len(one.lines) * sum(len(line.continuation) for line in one.lines[0])

    room = CPU_BATCH if lens.device.type == "cpu" else GPU_BATCH
    order = sorted(range(len(asked)), key=lambda number: (-positions(asked[number]), -asked[number].length))
    while order:
        n = max(1, room // (positions(asked[order[0]]) + asked[order[0]].length))
        yield order[:n]
        order = order[n:]


def _answered(lens: Lens, metric: str, asked: Sequence[_Asked]) -> Iterator[list[bool]]:
    """For each question, under which doses the right answer wins; of equals the first does, as in OLMo."""
    found = log_likelihoods(lens, [line for one in asked for lines in one.lines for line in lines])
    if not found.isfinite().all():
        raise ValueError(
            f"{lens.checkpoint.name} answers with no numbers. Steer less, or open it with --dtype float32."
        )
    scores = iter(found.tolist())
    for question, lines in asked:
        lengths = [len(choice) - 1 if metric == "len_norm" else 1 for choice in question.choices]
        rows = [[next(scores) / length for length in lengths] for _ in lines]
        yield [row.index(max(row)) == question.answer for row in rows]


def _digest(task: Task, asked: Sequence[_Asked]) -> str:
    known = [task.name, task.metric, *(asdict(one.question) for one in asked)]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()
