"""How fast activations are gathered, against the bare forward pass and against one text at a time.

python -m benchmarks.gather
python -m benchmarks.gather --checkpoint checkpoints/demo-10 --json gather.json --markdown gather.md

All roads read the same texts with the same model and threads, and take turns inside each repeat; a ratio is taken
within a repeat. `gather` does everything from text to tensors. The bare pass is only the layers, without the
unembedding, over the same sorted batches, which are tokenised and padded beforehand. One text at a time is how the code
of Li et al. 2023 (honest_llama) gathers: the whole model, every hidden state, all positions.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from benchmarks.roads import Spread
from lens import Lens, gather, open_lens, positions
from lens.activations import encode_ends, sorted_batches
from lens.terminal import run_function
from probes import builtin

ROOT = Path(__file__).parent.parent
OF_BARE, OF_ONE_BY_ONE = 0.95, 5.0
"""What was promised."""


@dataclass(frozen=True)
class Gathering:
    """Texts per second on each road, medians; ratios are taken within a repeat."""

    checkpoint: dict[str, Any]
    machine: str
    n_texts: int
    n_tokens: int
    repeats: int
    gather: float
    bare: float
    one_by_one: float
    of_bare: Spread
    of_one_by_one: Spread

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Gathering:
        """From what was written as JSON."""
        return cls(**{**plain, **{name: Spread(**plain[name]) for name in ("of_bare", "of_one_by_one")}})


def measure(lens: Lens, n_texts: int, repeats: int) -> Gathering:
    """All roads over the built-in texts."""
    texts = builtin().texts[:n_texts]
    words, labels, groups = zip(*((text.text, text.label, text.group) for text in texts), strict=True)
    rows = encode_ends(lens, words)
    batches = [lens.pad([rows[i] for i in batch]) for batch in sorted_batches(lens, rows)]
    roads = (
        lambda: gather(lens, words, labels, groups),
        lambda: bare(lens, batches),
        lambda: [alone(lens, text) for text in words],
    )
    turns = list(interleaved(lens, roads, repeats))
    ours, theirs, single = (len(words) / statistics.median(road) for road in zip(*turns, strict=True))
    of_bare, of_single = (Spread.of([turn[road] / turn[0] for turn in turns]) for road in (1, 2))
    machine = f"{platform.machine()}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    n_tokens = sum(map(len, rows))
    return Gathering(lens.description, machine, len(words), n_tokens, repeats, ours, theirs, single, of_bare, of_single)


@torch.inference_mode()
def bare(lens: Lens, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for tokens, mask in batches:
        lens.model.model(tokens, attention_mask=mask, position_ids=positions(tokens, mask), use_cache=False)


@torch.no_grad()
def alone(lens: Lens, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Heads and residual stream at the last token of one text."""
    heads: list[torch.Tensor] = []
    with ExitStack() as undo:
        for layer in lens.model.model.layers:
            watch = layer.self_attn.o_proj.register_forward_pre_hook(lambda _, inputs: heads.append(inputs[0].cpu()))
            undo.callback(watch.remove)
        tokens = torch.tensor([lens.encode(text)], device=lens.device)
        states = lens.model(tokens, output_hidden_states=True, use_cache=False).hidden_states
    stacked = (torch.stack([part.float().cpu() for part in parts]).squeeze(1).numpy() for parts in (heads, states))
    return tuple(whole[:, -1] for whole in stacked)  # type: ignore[return-value]


def interleaved(lens: Lens, roads: Sequence[Callable[[], Any]], n: int) -> Iterator[list[float]]:
    """Seconds of each road in each of n repeats; every other repeat goes backwards, the first is not counted."""
    for repeat in range(n + 1):
        seconds = [0.0] * len(roads)
        order = list(range(len(roads)))
        for i in order if repeat % 2 else reversed(order):
            seconds[i] = clocked(lens, roads[i])
        if repeat:
            yield seconds


def clocked(lens: Lens, work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    if lens.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def table(found: Gathering) -> str:
    """The results as Markdown."""
    model = found.checkpoint
    return "\n".join(
        [
            f"{model['checkpoint']} ({model['fingerprint'][:8]}), {model['dtype']} on {model['device']}, "
            f"{model['threads']} thread(s); {found.machine}; {found.n_texts} texts, {found.n_tokens:,} tokens; medians "
            f"of {found.repeats} interleaved repeats, quartiles in brackets.",
            "",
            "| road | texts/s | gather is so many times as fast | aim |",
            "|---|---:|---:|---:|",
            f"| gather | {found.gather:.0f} | | |",
            f"| bare forward pass, same batches | {found.bare:.0f} | {_said(found.of_bare)} | {OF_BARE} |",
            f"| one text at a time | {found.one_by_one:.0f} | {_said(found.of_one_by_one)} | {OF_ONE_BY_ONE:g} |",
        ]
    )


def _said(spread: Spread) -> str:
    return f"{spread.median:.2f} [{spread.low:.2f}, {spread.high:.2f}]"


def main(
    checkpoint: Path = ROOT / "checkpoints" / "demo-10",
    n_texts: int = 10_000,
    repeats: int = 11,
    device: str = "cpu",
    dtype: str | None = None,
    threads: int = 2,
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
    markdown: Path | None = None,
) -> None:
    """Measure, print the table, and write it and its numbers where asked.

    Args:
        checkpoint: A folder.
        n_texts: Of the built-in texts, at most.
        repeats: Turns of all roads, after one that is not counted.
        device: cpu or cuda.
        dtype: float32, bfloat16 or float16. Default: float32 below 500 million parameters.
        threads: CPU threads of every road.
        as_json: File for the numbers.
        markdown: File for the table.
    """
    found = measure(open_lens(str(checkpoint), device, dtype, threads), n_texts, repeats)
    print(table(found))
    if as_json:
        as_json.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    if markdown:
        markdown.write_text(f"{table(found)}\n", encoding="utf-8")


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
