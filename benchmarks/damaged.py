"""Damaged folders, seeded: each is refused with a sentence, unavailable with a reason, or opened because it is whole.

python -m benchmarks.damaged --n 300 --seed 0 --out docs/damaged.json

Every folder is made of links to a shipped checkpoint, damaged in one way, and judged by a child process within a time
limit: a traceback, a hang, a reason without words, a model that differs without a word, or a flipped bit of the weights
that nobody finds is a failure. One folder at a time lies on the disk.
"""

from __future__ import annotations

import json
import multiprocessing as mp
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.damages import DAMAGES
from lens import BrokenCheckpoint, Catalogue, Checkpoint, open_lens, write_atomically
from lens.terminal import run_function
from probes import ProbeSet, saved

ROOT = Path(__file__).parent.parent
NAME = "damaged"
LONGEST_SENTENCE = 1000
TOKENS = torch.tensor([[2, 3, 5, 7, 11, 13, 17, 19]])
MUST_BE_FOUND = ("flip_body_bit", "zero_block")
"""Damages after which a card that names its weights lets no folder open."""


@dataclass(frozen=True)
class Judgement:
    """What became of one damaged folder."""

    number: int
    damage: str
    what: str
    outcome: str
    """"unavailable", "refused", "opened: ...", or "FAILED: ..."."""
    said: str
    seconds: float

    @property
    def is_right(self) -> bool:
        return not self.outcome.startswith("FAILED")


def run_damages(
    source: Path, n: int = 300, seed: int = 0, limit_s: float = 60, threads: int = 1, say: Any = lambda line: None
) -> list[Judgement]:
    """Damage `source` in n ways, one after the other, and judge each."""
    found, child = [], _Child(source, threads)
    with tempfile.TemporaryDirectory() as place:
        for number in range(n):
            damage, folder = DAMAGES[number % len(DAMAGES)], Path(place) / str(number) / NAME
            link_folder(source, folder)
            what, started = damage(folder, np.random.default_rng([seed, number])), time.monotonic()
            outcome, said = child.judge(folder, limit_s)
            if damage.__name__ in MUST_BE_FOUND and outcome.startswith("opened"):
                outcome = f"FAILED: {outcome}, and nothing found the damage"
            seconds = round(time.monotonic() - started, 2)
            found.append(Judgement(number, damage.__name__, what, outcome, said, seconds))
            say(f"{number + 1} of {n}: {found[-1].damage}, {outcome}")
            shutil.rmtree(folder.parent)
    child.end()
    return found


def link_folder(source: Path, folder: Path) -> None:
    """A folder that is the same, made of links; what damages a file puts one of its own in the link's place."""
    folder.mkdir(parents=True)
    for path in source.iterdir():
        (folder / path.name).symlink_to(path.resolve())


class _Child:
    """A process that judges folders; one that hangs or dies is replaced."""

    def __init__(self, source: Path, threads: int) -> None:
        self._asked, self._context = (source, threads), mp.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs, *self._asked), daemon=True)
        self._process.start()
        theirs.close()  # else its end would not be noticed
        self._pipe.recv()  # an EOFError, should it not even start

    def judge(self, folder: Path, limit_s: float) -> tuple[str, str]:
        try:
            self._pipe.send(folder)
            if self._pipe.poll(limit_s):
                return self._pipe.recv()
            outcome = f"FAILED: no answer within {limit_s:g} s"
        except (EOFError, BrokenPipeError):
            outcome = "FAILED: the process died"
        self._process.kill()
        self._process.join()
        self._start()
        return outcome, ""

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, source: Path, threads: int) -> None:
    """Judge each folder that comes, beside the undamaged one."""
    whole = open_lens(Checkpoint.open(source), "cpu", "float32", threads)
    logits = whole.plain_logits(TOKENS)
    pipe.send("ready")
    while True:
        folder = pipe.recv()
        try:
            pipe.send(judge_folder(folder, whole.fingerprint, logits))
        except BaseException as error:  # whatever it is, it would have been a traceback
            pipe.send((f"FAILED: {type(error).__name__}", str(error)[:LONGEST_SENTENCE]))


def judge_folder(folder: Path, fingerprint: str, logits: torch.Tensor) -> tuple[str, str]:
    """What the page and a command make of a folder, and the sentence that a person reads."""
    catalogue = Catalogue(folder.parent)
    if folder.name not in catalogue:
        return _said("unavailable", catalogue.broken[folder.name])
    try:
        lens = open_lens(catalogue[folder.name], "cpu", "float32")
    except BrokenCheckpoint as error:
        return _said("refused", str(error))
    mine = lens.plain_logits(TOKENS)
    if lens.fingerprint == fingerprint:
        if not torch.equal(mine, logits):
            return "FAILED: other logits with the same fingerprint", ""
        return _probes(lens.checkpoint)
    if not lens.warnings:
        return "FAILED: another model without a word", ""
    return _said("opened: another model, with a warning", " ".join(lens.warnings))


def _probes(checkpoint: Checkpoint) -> tuple[str, str]:
    """Load what probes lie beside an undamaged model."""
    for name in saved(checkpoint):
        try:
            ProbeSet.load(checkpoint, name)
        except (ValueError, LookupError) as error:
            return _said("opened: the same model, its probes refused", str(error))
    return "opened: the same model", ""


def _said(outcome: str, sentence: str) -> tuple[str, str]:
    sentence.encode()  # a page could not show half a character
    plain = 20 < len(sentence) <= LONGEST_SENTENCE and "Traceback" not in sentence
    return (outcome if plain else f"FAILED: {outcome} without a plain sentence"), sentence[:LONGEST_SENTENCE]


def summary(found: list[Judgement], seed: int) -> dict[str, Any]:
    """Counts of outcomes, by damage too, and every failure in full."""
    kinds = sorted({one.damage for one in found})
    return {
        "n": len(found),
        "seed": seed,
        "right": sum(one.is_right for one in found),
        "slowest_s": max(one.seconds for one in found),
        "outcomes": dict(Counter(one.outcome for one in found)),
        "by_damage": {kind: dict(Counter(one.outcome for one in found if one.damage == kind)) for kind in kinds},
        "failures": [asdict(one) for one in found if not one.is_right],
    }


def main(
    checkpoint: Path = ROOT / "checkpoints" / "demo-10", n: int = 300, seed: int = 0, out: Path | None = None
) -> None:
    """Damage a shipped checkpoint in many ways, and see that each is found or harmless.

    Args:
        checkpoint: A folder whose card names its weights.
        n: Damaged folders.
        seed: Of what is damaged.
        out: A JSON file for the result; printed unless told.
    """
    found = run_damages(checkpoint, n, seed, say=lambda line: print(line, file=sys.stderr))
    text = json.dumps(summary(found, seed), indent=1)
    print(text)
    if out is not None:
        write_atomically(out, text)
    if not all(one.is_right for one in found):
        sys.exit(1)


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
