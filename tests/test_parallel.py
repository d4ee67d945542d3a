"""Many processes compute what one does: DDP and FSDP against a single process, and what happens when one is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made import again, made

from training.conduct import Conduct
from training.run import journal, steps

pytest.importorskip("olmo", reason="ai2-olmo needs numpy 1, which this Python has no wheels for")

ROOT = Path(__file__).parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def started(command: list[str], **environment: str) -> "subprocess.Popen[str]":
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_two_processes_follow_the_loss_curve_of_one(tmp_path: Path) -> None:
    """Equal global batch, 20 steps, gloo on CPU: whole models (DDP) and sharded ones (FSDP)."""
    from training.pretrain import pretrain

    alone = made(tmp_path / "alone", n_steps=20)
    pretrain(alone, Conduct(threads=1, evaluations=2))
    spread = {strategy: again(alone, tmp_path / strategy) for strategy in ("ddp", "fsdp")}
    options = ["--threads", "1", "--evaluations", "2", "--keep-last", "15"]
    processes = [
        started([*TORCHRUN, "2", "-m", "training", "pretrain", str(folder), "--strategy", strategy, *options])
        for strategy, folder in spread.items()
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    curve = {entry["step"]: entry["loss"] for entry in journal(alone)}
    assert list(curve) == list(range(1, 21))
    assert curve[20] < curve[1] - 0.1, "there is something to follow"
    for folder in spread.values():
        assert {entry["step"]: entry["loss"] for entry in journal(folder)} == pytest.approx(curve, abs=1e-4)
        for one, two in zip(journal(alone, "held_out"), journal(folder, "held_out"), strict=True):
            assert two["held_out"] == pytest.approx(one["held_out"], abs=1e-4)
        assert list(steps(folder))[-1] == 20
    for step, folder in steps(spread["fsdp"]).items():
        if step > 8:
            shutil.rmtree(folder)
    pretrain(spread["fsdp"], Conduct(threads=1, evaluations=2))  # what two processes began, sharded, one ends
    one, two = (journal(folder, "held_out")[-1]["held_out"] for folder in (alone, spread["fsdp"]))
    assert two == pytest.approx(one, abs=1e-4)
    optimiser = torch.load(steps(spread["fsdp"])[20] / "optim.pt", weights_only=True)
    marks = {group["sharded"] for group in optimiser["param_groups"]}
    assert marks == {False}, "else processes would add up norms that are whole already, and clip too much"


def test_a_process_that_never_comes_is_reported(tmp_path: Path) -> None:
    run = made(tmp_path / "lonely", n_steps=2)
    command = [sys.executable, "-m", "training", "pretrain", str(run), "--patience-s", "3"]
    process = started(command, RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Only some of the 2 processes came within 3 s" in said
    assert "Traceback" not in said
