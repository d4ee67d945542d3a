"""A family in one go: train what is missing, export what is trained."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lens.numeric import settle_numbers
from training.conduct import Conduct
from training.family import Family, Member, Say, prepare
from training.run import STOPPED, progress

GRACE_S = 40
"""Seconds a process has to end: torchrun gives its own workers 30 before it ends them by force."""


class TrainingFailed(RuntimeError):
    """A training process ended badly; the sentence names its log."""


@dataclass(frozen=True)
class Crew:
    """Who trains the members of a family."""

    parallel: int = 1
    """Members trained at a time; each gets a GPU of its own, or a share of one where they outnumber the GPUs."""
    processes: int = 1
    """Of each member (torchrun): one per GPU."""
    conduct: Conduct = field(default_factory=Conduct)

    def __post_init__(self) -> None:
        settle_numbers(self)
        if min(self.parallel, self.processes) < 1:
            raise ValueError(f"--parallel and --processes are 1 or more; got {self.parallel} and {self.processes}.")

    def gpus(self, slot: int, there: Sequence[str]) -> list[str]:
        """Which GPUs the member in a slot gets, of those that are there; members of one process may share one."""
        if self.processes == 1 and there:
            return [there[slot % len(there)]]
        return list(there[slot * self.processes : (slot + 1) * self.processes])


def run(family: Family, crew: Crew, say: Say) -> list[Path]:
    """Train and export every member that is not there yet; return their folders."""
    family.recipe.chunks_of_each(crew.processes)
    import torch

    from training.export import export

    n_gpus, needed = torch.cuda.device_count(), crew.parallel * crew.processes
    if crew.processes > 1 and 0 < n_gpus < needed:
        raise ValueError(f"--parallel and --processes ask for {needed} GPUs; there are {n_gpus}.")
    missing = [member for member in family.members() if not member.done]
    for member in family.members():
        if member not in missing:
            say(f"{member.name}: is there already")
    if missing:
        prepare(family, missing, say)
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = (given.split(",") if given else [str(number) for number in range(n_gpus)])[:n_gpus]  # CUDA stops at a gap
    for member in _trained(missing, crew, there, say):
        say(f"{member.name}: exported to {export(member.run, family.out)}")
    return [member.out for member in family.members()]


def _trained(members: Sequence[Member], crew: Crew, there: Sequence[str], say: Say) -> Iterator[Member]:
    """Each member when its training ends; progress of all is told every half minute."""
    waiting, running = list(members), dict[int, tuple[Member, "subprocess.Popen[bytes]"]]()
    told = time.monotonic()
    try:
        while waiting or running:
            for slot in range(crew.parallel):
                if slot not in running and waiting:
                    if (member := waiting.pop(0)).trained:
                        yield member
                        continue
                    running[slot] = member, _start(member, crew, crew.gpus(slot, there))
                    say(f"{member.name}: training")
            time.sleep(1)
            for slot, (member, process) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    if process.returncode:
                        raise TrainingFailed(f"{member.name}: {last_words(_log(member))} (log: {_log(member)})")
                    yield member
            if time.monotonic() - told > 30:
                told = time.monotonic()
                for member, _ in running.values():
                    say(f"{member.name}: {progress(member.run)}")
    finally:
        if running:
            say(f"ending {', '.join(member.name for member, _ in running.values())}")
        end([process for _, process in running.values()])


def end(processes: Sequence["subprocess.Popen[bytes]"], grace_s: float = GRACE_S) -> None:
    """End them, by force where asking is not enough: a save is whole or does not count, and a GPU would stay taken."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + grace_s
    try:
        while any(process.poll() is None for process in processes) and time.monotonic() < until:
            time.sleep(0.1)
    finally:  # also where somebody presses Ctrl-C once more
        for process in processes:
            process.kill()
            process.wait()


def _start(member: Member, crew: Crew, gpus: Sequence[str]) -> "subprocess.Popen[bytes]":
    """A process per member, or torchrun over several, which sees these GPUs."""
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(crew.processes)]
    launch = [sys.executable, *(several if crew.processes > 1 else [])]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    if crew.conduct.threads:
        environment["OMP_NUM_THREADS"] = str(crew.conduct.threads)
    with _log(member).open("wb") as log:
        command = [*launch, "-m", "training", "pretrain", str(member.run), *crew.conduct.arguments()]
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def _log(member: Member) -> Path:
    return member.run / "log.txt"


def last_words(log: Path) -> str:
    """What a process said before it ended; torchrun writes a banner before that and a report of its own behind it."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    report = next((i for i, line in enumerate(lines) if "torch/distributed/elastic/" in line), len(lines))
    said = [line for line in lines if line.startswith(STOPPED)]
    return (said or lines[:report] or ["ended without a word"])[-1].removeprefix(STOPPED)
