"""Two Ray workers make the rows that one process makes, also when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from conftest import SENTENCES
from letters import letters

from evaluation.plans import read_plan
from evaluation.prompts import open_prompts
from evaluation.results import Results
from evaluation.spread import spread
from evaluation.sweep import Engine, Progress, Sweep, here, measure
from evaluation.unit import Bench, OtherVersion, Subject
from lens.bench import Bench as Page
from steering import Sampling

if sys.version_info >= (3, 14):  # below, requirements.txt installs it, and a test that is skipped tests nothing
    pytest.importorskip("ray")


@pytest.fixture(scope="module")
def asked(bench: Page) -> Sweep:
    subjects = tuple(Subject.of(bench.checkpoint(name), "float32") for name in ("tiny-a", "tiny-b"))
    plans = tuple(read_plan(plan, "builtin") for plan in ("none", "iti@4", "caa@0.05nats"))
    prompts = replace(ours := open_prompts("builtin"), prompts=ours.prompts[:24])
    sampling, scorers = Sampling(max_tokens=8), (("letters", "letters", "1"),)
    return Sweep(subjects, plans, (prompts,), (0, 1, 2), sampling, 8, scorers, "ours", " ".join(SENTENCES) * 3)


def lines(folder: Path) -> list[str]:
    return sorted((folder / "rows.jsonl").read_text().splitlines())


def test_two_workers_one_of_them_killed_make_the_rows_of_one_process(
    asked: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the workers find `letters`
    with Results(tmp_path / "here") as results:
        measure(asked, results, here(Bench("cpu", 1, letters)))
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        """The first worker that is at work a third of the way."""
        if progress.done > 0.3 and not killed:
            workers = [one for one in psutil.Process().children(recursive=True) if one.cmdline()[:1] == ["ray::_rows"]]
            killed.append(workers[0].pid)
            os.kill(workers[0].pid, signal.SIGKILL)

    with spread("local", 2, "cpu", 1, letters) as engine:
        with Results(tmp_path / "there") as results:
            measure(asked, results, engine, kill_one)
        refuses(asked, engine, tmp_path / "refused")
    assert killed
    assert lines(tmp_path / "there") == lines(tmp_path / "here")
    there, ours = (json.loads((tmp_path / name / "sweep.json").read_text()) for name in ("there", "here"))
    assert there == ours


def refuses(asked: Sweep, engine: Engine, folder: Path) -> None:
    """A worker's refusal arrives as the sentence that it is."""
    other = replace(asked, scorers=(("letters", "letters", "2"),))
    with Results(folder) as results, pytest.raises(OtherVersion, match="planned with 2") as refused:
        measure(other, results, engine)
    assert "Traceback" not in str(refused.value)
