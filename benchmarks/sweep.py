"""Where a sweep's time goes, and what it saves to write all plans together.

python -m benchmarks.sweep
python -m benchmarks.sweep --checkpoint checkpoints/demo-10 --json sweep.json

Units of ten plans on 25 prompts, three seeds after one another, as a sweep has them, scored by the built-in scorer.
Short prompts are our own; long ones are lists of them, as long as ToxiGen's. The other road writes the same texts a
plan at a time. Both take turns inside each repeat, and a ratio is taken within a repeat. Times are of the processor, so
that others on the same machine matter little.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any
from unittest.mock import patch

import torch
import tyro

from benchmarks.roads import Spread
from evaluation.commands.sweep import scorer
from evaluation.plans import read_plan
from evaluation.prompts import Prompt, listed, open_prompts
from evaluation.unit import Bench, GenerationUnit, Subject, run
from lens import find
from lens.terminal import run_function
from steering import Sampling, batch
from steering.decode import Decoder

OF_TIME, OF_ONE_BY_ONE = 0.85, 2.0
"""What was promised."""
PARTS = ("model", "choice", "receipts")
PLANS = ["none", "prompting", "iti@4", "iti@8", "iti@12", "caa@1", "caa@2", "act@1", "mean-act@1", "leace@1"]
N_PROMPTS, N_LISTED, SEEDS = 25, 8, 3


@dataclass(frozen=True)
class Sweeping:
    """One kind of prompts."""

    prompts: str
    n_characters: float
    """Of a prompt, median."""
    tokens_per_second: float
    """Written under all plans together, scored; median."""
    shares: dict[str, float]
    """Of the time, by part; medians."""
    of_one_by_one: Spread
    """So many times as fast as a plan at a time."""


def units(checkpoint: Path, prompts: Sequence[Prompt], plans: Sequence[str]) -> list[GenerationUnit]:
    """One batch of prompts with several seeds."""
    subject, opened = Subject.of(find(str(checkpoint)), "float32"), scorer("builtin")
    about = "benchmark", "", 0, tuple(prompts)
    scorers = (("builtin", opened.name, opened.version),)
    asked = tuple(map(read_plan, plans))
    samplings = [Sampling(max_tokens=20, seed=seed) for seed in range(SEEDS)]
    return [GenerationUnit(subject, asked, *about, sampling, 1, scorers) for sampling in samplings]


def long(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Lists of prompts, each beginning at another one."""
    texts = [prompt.text for prompt in prompts] * 2
    lists = [tuple(texts[first : first + N_LISTED]) for first in range(len(prompts))]
    return [Prompt(str(number), listed(one), demonstrations=one) for number, one in enumerate(lists)]


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Processor seconds by part while the `with` lasts."""
    spent: dict[str, float] = defaultdict(float)

    def clocked(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def watch(*args: Any, **options: Any) -> Any:
            start = time.process_time()
            try:
                return work(*args, **options)
            finally:
                spent[part] += time.process_time() - start

        return watch

    parts = [(Decoder, "__init__", "model"), (Decoder, "step", "model"), (batch, "next_tokens", "choice")]
    parts += [(batch.Batch, "_noise", "choice"), (batch, "compare", "receipts")]
    patches = [patch.object(home, name, clocked(part, getattr(home, name))) for home, name, part in parts]
    for one in patches:
        one.start()
    try:
        yield spent
    finally:
        for one in patches:
            one.stop()


def measure(name: str, prompts: Sequence[Prompt], checkpoint: Path, bench: Bench, repeats: int) -> Sweeping:
    together = units(checkpoint, prompts, PLANS)
    apart = [units(checkpoint, prompts, [plan]) for plan in PLANS]
    ratios, speeds, shares = [], [], []
    for repeat in range(repeats + 1):
        with watched() as spent:
            seconds, n_tokens = clocked(together, bench)
        alone = sum(clocked(some, bench)[0] for some in apart)
        if repeat:  # the first is not counted
            ratios.append(alone / seconds)
            speeds.append(n_tokens / seconds)
            shares.append({part: spent[part] / seconds for part in spent})
    parts = {part: median(one[part] for one in shares) for part in shares[0]}
    n_characters = median(len(prompt.text) for prompt in prompts)
    return Sweeping(name, n_characters, median(speeds), parts, Spread.of(ratios))


def clocked(some: Sequence[GenerationUnit], bench: Bench) -> tuple[float, int]:
    """Processor seconds of some units, and tokens written."""
    bench.kept.clear()
    start = time.process_time()
    rows = [row for unit in some for row in run(unit, bench)]
    return time.process_time() - start, sum(text["n_tokens"] for row in rows for text in row["texts"])


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        f"{found['checkpoint']}, one thread; {found['machine']}; {N_PROMPTS} prompts × {len(PLANS)} plans × {SEEDS} "
        f"seeds × 20 tokens; medians of {found['repeats']} repeats in processor time, quartiles in brackets.",
        "",
        "| prompts | tokens/s | in model passes | choosing tokens | receipts | as fast as a plan at a time |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in found["kinds"]:
        ratio = "{median:.2f} [{low:.2f}, {high:.2f}]".format(**one["of_one_by_one"])
        name = f"{one['prompts']}, {one['n_characters']:.0f} characters"
        lines.append(f"| {name} | {one['tokens_per_second']:.0f} | {_shares(one['shares'])} | {ratio} |")
    times = [1 / one["tokens_per_second"] for one in found["kinds"]]
    both = {
        part: sum(time * one["shares"][part] for time, one in zip(times, found["kinds"], strict=True)) / sum(times)
        for part in PARTS
    }
    lines.append(f"| both, as many tokens of each | {len(times) / sum(times):.0f} | {_shares(both)} | |")
    return "\n".join([*lines, f"| aim | | {OF_TIME:.0%} | | | {OF_ONE_BY_ONE:g} |"])


def _shares(shares: dict[str, float]) -> str:
    return " | ".join(f"{shares[part]:.0%}" for part in PARTS)


def main(
    checkpoint: Path = Path("checkpoints/demo-10"),
    repeats: int = 5,
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Measure, print, and keep the numbers.

    Args:
        checkpoint: A folder with probes and fits for all plans.
        repeats: Turns of both roads, after one that is not counted.
        as_json: File for the numbers.
    """
    bench = Bench("cpu", 1, scorer)
    ours = open_prompts("builtin").prompts[:N_PROMPTS]
    kinds = [measure(name, some, checkpoint, bench, repeats) for name, some in (("short", ours), ("long", long(ours)))]
    machine = f"{platform.machine()}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    found = {"checkpoint": checkpoint.name, "machine": machine, "repeats": repeats, "kinds": [*map(asdict, kinds)]}
    print(table(found))
    if as_json:
        as_json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
