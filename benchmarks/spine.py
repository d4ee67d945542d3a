"""How fast steered text comes, against plain text and against Hugging Face's own `generate`.

python -m benchmarks.spine --json docs/performance.json --markdown docs/performance.md

All roads write the same number of tokens with the same model and threads. They take turns inside each repeat, so that
whatever else the machine does hits all of them; a ratio is taken within a repeat and reported as the median.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.request import urlopen

import torch
import tyro

from lens import Head, Lens, open_lens
from probes import Direction
from steering import Row, Sampling, generate, stream
from steering.plan import default_n_heads

ROOT = Path(__file__).parent.parent
PROMPT = "The people next door are kind, and they"
SIGMAS = (0.0, 4.0, 8.0, 12.0)
PAGE_SECONDS, FIRST_TOKEN_SECONDS, OF_PLAIN, OF_HUGGING_FACE = 15, 0.5, 0.95, 0.9
"""What was promised."""


HEAD = """# How fast it is

Written by `python -m benchmarks.spine --json docs/performance.json --markdown docs/performance.md`. All roads use the
same weights and threads and take turns in one run; quote the ratios, for absolute times are those of one machine. At
this size a token costs more Python than arithmetic, which is why the loop runs the model's layers itself.
"""


@dataclass(frozen=True)
class Speed:
    """Decoding one batch on three roads; medians over the repeats."""

    sampling: str
    n_rows: int
    plain: float
    """Tokens per second and row, our loop, nothing steered."""
    steered: float
    """The same with every row steered."""
    hugging_face: float
    """`model.generate` with the same sampling."""
    steered_of_plain: float
    """Median of the ratios within each repeat."""
    steered_of_hugging_face: float


def speed(lens: Lens, directions: list[Direction], n_rows: int, temperature: float, n_tokens: int, n: int) -> Speed:
    """One line of the table."""
    sampling = Sampling(temperature, top_p=0.9, max_tokens=n_tokens)
    plain = [Row(PROMPT, 0.0, sample) for sample in range(n_rows)]
    steered = [Row(PROMPT, SIGMAS[-1 - sample % len(SIGMAS)], sample) for sample in range(n_rows)]
    roads: list[Callable[[], Any]] = [
        lambda: generate(lens, plain, [], sampling),
        lambda: generate(lens, steered, directions, sampling),
        lambda: hugging_face(lens, n_rows, sampling),
    ]
    rates = [[n_tokens / seconds for seconds in turn] for turn in interleaved(roads, n)]
    ours, pushed, theirs = (statistics.median(road) for road in zip(*rates, strict=True))
    of_plain = statistics.median(turn[1] / turn[0] for turn in rates)
    of_theirs = statistics.median(turn[1] / turn[2] for turn in rates)
    return Speed("greedy" if temperature == 0 else "top-p 0.9", n_rows, ours, pushed, theirs, of_plain, of_theirs)


def interleaved(roads: list[Callable[[], Any]], n: int) -> Iterator[list[float]]:
    """Seconds of each road in each of n repeats; every other repeat goes backwards, the first is not counted."""
    for repeat in range(n + 1):
        seconds = [0.0] * len(roads)
        order = list(range(len(roads)))
        for i in order if repeat % 2 else reversed(order):
            seconds[i] = clocked(roads[i])
        if repeat:
            yield seconds


def clocked(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def hugging_face(lens: Lens, n_rows: int, sampling: Sampling) -> None:
    """The named baseline: transformers' `generate` with its cache, told that no text ends."""
    from transformers import GenerationConfig

    prompt = torch.tensor([lens.encode(PROMPT)] * n_rows, device=lens.device)
    chance = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    config = GenerationConfig(
        max_new_tokens=sampling.max_tokens, pad_token_id=0, **(chance if sampling.temperature else {"do_sample": False})
    )
    ids = lens.model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
    assert ids.shape[1] == prompt.shape[1] + sampling.max_tokens


def first_token_seconds(lens: Lens, directions: list[Direction], n: int) -> float:
    """From asking to the first step of four strengths, model open; median."""
    rows = [Row(PROMPT, sigmas) for sigmas in SIGMAS]
    times = [clocked(lambda: next(stream(lens, rows, directions, Sampling()))) for _ in range(n + 1)]
    return statistics.median(times[1:])


def opening_seconds(folder: Path, n: int) -> float:
    """From a folder on disk to an open model; median."""
    return statistics.median(clocked(lambda: open_lens(str(folder), device="cpu")) for _ in range(n))


def page_served_seconds() -> float:
    """From the command to the first answer of the page, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL) as app:
        try:
            while app.poll() is None:
                with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    assert answer.status == 200
                    return time.perf_counter() - start
                time.sleep(0.05)
        finally:
            app.terminate()
    raise RuntimeError("The app ended before it answered. Start it by hand to see why: python app.py")


def some_directions(lens: Lens) -> list[Direction]:
    """As many directions as a default plan has, in heads spread over all layers; which ones does not matter to time."""
    heads = list(lens.grid)
    n = default_n_heads(len(heads))
    unit = torch.ones(lens.grid.d_head) / lens.grid.d_head**0.5
    return [Direction(Head(head.layer, head.index), unit, 0.01) for head in heads[:: max(1, len(heads) // n)][:n]]


def measure(folder: Path, threads: int, n_tokens: int, repeats: int) -> dict[str, Any]:
    """Everything this script knows about one checkpoint, as plain values."""
    lens = open_lens(str(folder), threads=threads)
    lens.eos, lens.model.generation_config.eos_token_id = -1, None  # no text ends: every road writes as many tokens
    directions = some_directions(lens)
    speeds = [
        speed(lens, directions, n_rows, temperature, n_tokens, repeats)
        for temperature in (0.0, 1.0)
        for n_rows in (1, 4, 16)
    ]
    return {
        "model": lens.description,
        "machine": f"{platform.machine()}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f} at the start",
        "n_heads": len(directions),
        "n_tokens": n_tokens,
        "repeats": repeats,
        "page_served_seconds": page_served_seconds(),
        "opening_seconds": opening_seconds(folder, 3),
        "first_token_seconds": first_token_seconds(lens, directions, repeats),
        "speeds": [asdict(line) for line in speeds],
    }


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    model = found["model"]
    lines = [
        f"{model['checkpoint']} ({model['fingerprint'][:8]}), {model['dtype']} on {model['device']}, "
        f"{model['threads']} thread(s); {found['machine']}; {found['n_heads']} heads steered, "
        f"{found['n_tokens']} tokens, medians of {found['repeats']} interleaved repeats.",
        "",
        f"First token of four strengths: {1000 * found['first_token_seconds']:.0f} ms with the model open (aim "
        f"{1000 * FIRST_TOKEN_SECONDS:.0f}); opening it: {1000 * found['opening_seconds']:.0f} ms."
        f" Page served {found['page_served_seconds']:.1f} s after the command (aim {PAGE_SECONDS}).",
        "",
        "| words | rows | plain (tokens/s) | steered | Hugging Face `generate` | steered ÷ plain | "
        "steered ÷ Hugging Face |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for line in found["speeds"]:
        rates = " | ".join(f"{line[road] * line['n_rows']:.0f}" for road in ("plain", "steered", "hugging_face"))
        ratios = f"{line['steered_of_plain']:.2f} | {line['steered_of_hugging_face']:.2f}"
        lines.append(f"| {line['sampling']} | {line['n_rows']} | {rates} | {ratios} |")
    return "\n".join([*lines, "", f"Aims: {OF_PLAIN} of plain, {OF_HUGGING_FACE} of Hugging Face."])


def main(
    checkpoint: Path = ROOT / "checkpoints" / "demo-10",
    threads: int = 1,
    n_tokens: int = 64,
    repeats: int = 7,
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    markdown: Path | None = None,
) -> None:
    """Measure, print the table, and write it and its numbers where asked.

    Args:
        checkpoint: A folder.
        threads: CPU threads of every road.
        n_tokens: Tokens each row writes.
        repeats: Turns of all roads, after one that is not counted.
        as_json: File for the numbers.
        markdown: File for the table.
    """
    found = measure(checkpoint, threads, n_tokens, repeats)
    print(table(found))
    if as_json:
        as_json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if markdown:
        markdown.write_text(f"{HEAD}\n{table(found)}\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
