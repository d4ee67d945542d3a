"""kill -9 at any moment: the same command again leaves the rows of a sweep that was never stopped, line for line."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from conftest import SENTENCES
from letters import letters

from evaluation.plans import read_plan
from evaluation.prompts import open_prompts
from evaluation.results import Results
from evaluation.sweep import Sweep, here, measure
from evaluation.unit import Bench, Subject
from lens.bench import Bench as Page
from steering import Sampling

KILLS = 10


def sweep(subjects: tuple[Subject, ...], out: Path) -> None:
    """Two checkpoints, three plans, 24 prompts, 20 samples, three seeds: 38 short units."""
    plans = tuple(read_plan(plan, "builtin") for plan in ("none", "iti@4", "caa@0.05nats"))
    prompts = replace(ours := open_prompts("builtin"), prompts=ours.prompts[:24])
    about = (0, 1, 2), Sampling(max_tokens=8), 20, (("letters", "letters", "1"),), "ours", " ".join(SENTENCES) * 3
    with Results(out) as results:
        measure(Sweep(subjects, plans, (prompts,), *about), results, here(Bench("cpu", 1, letters)))


def started(subjects: tuple[Subject, ...], out: Path) -> multiprocessing.Process:
    """The sweep in a process of its own, forked from one that has imported everything."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["evaluation.sweep", "transformers.models.olmo.modeling_olmo"])
    process = processes.Process(target=sweep, args=(subjects, out))
    process.start()
    return process  # type: ignore[return-value]


def size(out: Path) -> int:
    path = out / "rows.jsonl"
    return path.stat().st_size if path.exists() else 0


def test_ten_kills_leave_the_rows_of_an_uninterrupted_sweep(bench: Page, tmp_path: Path) -> None:
    """Each run is killed at a random moment after it has begun to write more than the one before it had."""
    subjects = tuple(Subject.of(bench.checkpoint(name), "float32") for name in ("tiny-a", "tiny-b"))
    sweep(subjects, tmp_path / "whole")
    whole, out = (tmp_path / "whole" / "rows.jsonl").read_bytes(), tmp_path / "killed"
    kills, rng = 0, np.random.default_rng(0)
    for _ in range(KILLS):
        before, process = size(out), started(subjects, out)
        while process.is_alive() and size(out) <= before:
            time.sleep(0.0005)
        time.sleep(rng.random() * 0.03)
        process.kill()
        process.join()
        kills += process.exitcode == -9
        assert whole.startswith((out / "rows.jsonl").read_bytes()), "what is there is the beginning of the whole"
    assert kills == KILLS
    assert size(out) < len(whole), "it was never allowed to end"
    sweep(subjects, out)
    assert (out / "rows.jsonl").read_bytes() == whole
    assert (out / "sweep.json").read_bytes() == (tmp_path / "whole" / "sweep.json").read_bytes()
