"""kill -9 at any moment, also inside a save: the same command ends with the weights of a run that was never killed."""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from made import again, made

from training.conduct import Conduct
from training.run import journal, newest_whole_step, step_folder

pytest.importorskip("olmo", reason="ai2-olmo needs numpy 1, which this Python has no wheels for")

N_STEPS, KILLS, INSIDE = 80, 10, 4
CONDUCT = Conduct(threads=1, evaluations=4)


def train(folder: Path) -> None:
    from training.pretrain import pretrain

    pretrain(folder, CONDUCT)


def saving(folder: Path) -> bool:
    return any(folder.glob("step*-tmp"))


def killed(folder: Path, moment: float | None) -> tuple[bool, bool]:
    """Train in a process of its own and kill it after so many seconds of training, or (None) as soon as it saves.

    Returns whether it was killed before its end, and whether that was inside a save.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["training.pretrain"])
    begun = time.time()
    process = processes.Process(target=train, args=(folder,))
    process.start()
    while process.is_alive() and not (saving(folder) if moment is None else began(folder, begun)):
        time.sleep(0.0005)
    time.sleep(moment or 0)
    process.kill()
    process.join()
    return process.exitcode == -9, saving(folder)


def began(folder: Path, since: float) -> bool:
    return any(entry["time"] > since for entry in journal(folder))


@pytest.mark.parametrize("seed", [0])
def test_ten_kills_leave_the_weights_of_an_uninterrupted_run(tmp_path: Path, seed: int) -> None:
    whole = made(tmp_path / "whole", N_STEPS, passes=2)
    run = again(whole, tmp_path / "killed")
    train(whole)
    moments = np.random.default_rng(seed).random(KILLS - INSIDE) * 0.15
    kills, inside = 0, 0
    for moment in [None, *moments[:3], None, None, *moments[3:], None]:
        was_killed, in_a_save = killed(run, None if moment is None else float(moment))
        kills, inside = kills + was_killed, inside + (was_killed and in_a_save)
        for folder in run.glob("step*-unsharded"):
            torch.load(folder / "model.pt", weights_only=True)  # what has its name is whole
    assert kills == KILLS
    assert inside >= 3, "some of the kills were inside a save"
    assert newest_whole_step(run) != step_folder(run, N_STEPS), "it was never allowed to end"
    train(run)
    first, second = (
        torch.load(step_folder(folder, N_STEPS) / "model.pt", weights_only=True) for folder in (whole, run)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [entry["loss"] for entry in journal(whole)] == [entry["loss"] for entry in journal(run)]
