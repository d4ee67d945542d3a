"""How fast steered text comes: our loop beside Hugging Face's `generate`, hooks, TransformerLens, nnsight and pyvene.

python -m benchmarks.steering --sizes demo --peers-python PEERS/bin/python --json DEMO.json

All roads steer the same heads by the same vectors, at the last position, and write the same number of tokens. Before
they are timed they must write the same words. They take turns inside each repeat, so that whatever else the machine
does hits all of them; a ratio is taken within a repeat, and reported as a median with its quartiles.

The last two peers live in an environment of their own, with torch and transformers as here; without it they are left
out: `python -m venv PEERS`, then `PEERS/bin/pip install torch==2.13.0 transformers==5.23.0 nnsight==0.8.1
pyvene==0.1.8`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated, Any, Literal

import tyro

from benchmarks import roads
from benchmarks.random_models import random_iti, random_model
from benchmarks.roads import Road, Spread, Task
from benchmarks.speed_page import page
from benchmarks.waiting import waiting_seconds
from lens import Lens, open_lens, write_atomically
from lens.terminal import run_function
from steering import Doses, Plan, Row, Sampling, Steering, fit, generate

ROOT = Path(__file__).parent.parent
MODELS = Path(gettempdir()) / "hormesis-random-models"
PROMPT = "The people next door are kind, and they"
SIGMAS, STRENGTHS = 12.0, (0.0, 4.0, 8.0, 12.0)
DRAWN = ("plain", "ours", "no graphs", "generate")
"""Roads that are timed at temperature 1, too."""
SizeName = Literal["demo", "60m", "1b"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Size:
    """A model and how long it is timed."""

    dtype: str
    rows: tuple[int, ...]
    """Batch sizes."""
    n_tokens: int
    """Tokens each row writes."""
    repeats: int
    threads: int
    """CPU threads of every road."""


SIZES: dict[str, Size] = {
    "demo": Size("float32", (1, 4, 16), n_tokens=64, repeats=15, threads=1),
    "60m": Size("float32", (1, 4, 16), n_tokens=32, repeats=7, threads=2),
    "1b": Size("bfloat16", (1, 4), n_tokens=24, repeats=5, threads=2),
}
"""demo is one of our checkpoints; the others have the shapes of the recipes and random weights."""
ON_CUDA: dict[str, Size] = {
    "demo": Size("float32", (1, 16), n_tokens=64, repeats=5, threads=4),
    "60m": Size("float32", (1, 16), n_tokens=64, repeats=5, threads=4),
    "1b": Size("bfloat16", (1, 16), n_tokens=64, repeats=3, threads=4),
}
TOLERANCE = {("cpu", "float32"): 0.0, ("cuda", "float32"): 0.001, ("cpu", "bfloat16"): 0.1, ("cuda", "bfloat16"): 0.1}
"""How far a road's token may be from our greedy choice, in standard deviations of the logits: bfloat16 rounds a push
before `o_proj` and one behind it differently, and a GPU sums in another order in each kernel."""


def measure_size(
    name: SizeName, folder: Path, device: Device, size: Size, peers: Mapping[str, Path], say: Callable[[str], None]
) -> dict[str, Any]:
    """All roads on one model, as plain values; `peers`: by library, the python that has it."""
    lens = open_lens(str(folder), device=device, dtype=size.dtype, threads=size.threads)
    lens.end_tokens, lens.model.generation_config.eos_token_id = (
        frozenset(),
        None,
    )  # no text ends: every road writes as many tokens
    steering = fit(Plan(), lens) if name == "demo" else random_iti(lens)
    doses, versions = steering.at(SIGMAS), {}
    pushes = roads.pushes_of(doses)
    plain, theirs = roads.ours(lens, ()), roads.hugging_face(lens)
    steered: dict[str, Road] = {
        "ours": roads.ours(lens, doses),
        "pre-hooks": roads.pre_hooks(lens, pushes),
        "TransformerLens": roads.transformer_lens(lens, pushes),
    }
    if device == "cuda":
        steered["no graphs"] = roads.without_graphs(steered["ours"])
    with ExitStack() as processes:
        for library, python in peers.items():
            steered[library], versions[library] = processes.enter_context(roads.peer(python, library, lens, pushes))
        say(f"{name}: the same words on every road?")
        agreed = agreement(lens, doses, {"plain": plain, "generate": theirs}, steered, size)
        races = []
        for n_rows in size.rows:
            say(f"{name}: {n_rows} row(s), greedy")
            everyone = {"plain": plain, **steered, "generate": theirs}
            races.append(race(everyone, Task(PROMPT, n_rows, size.n_tokens), size.repeats))
            say(f"{name}: {n_rows} row(s), drawn")
            drawn = {name: everyone[name] for name in DRAWN if name in everyone}
            races.append(race(drawn, Task(PROMPT, n_rows, size.n_tokens, temperature=1.0), size.repeats))
    say(f"{name}: four strengths")
    return {
        "size": name,
        "model": lens.description,
        "n_parameters": sum(weight.numel() for weight in lens.model.parameters()),
        "n_heads": len(steering.edits),
        "n_layers": len(pushes),
        **asdict(size),
        "versions": versions,
        "agreement": agreed,
        "races": races,
        "reading_seconds": roads.reading_seconds(lens, 3 * size.repeats),
        "together": asdict(together(lens, steering, size)),
    }


def agreement(
    lens: Lens, doses: Doses, unsteered: dict[str, Road], steered: dict[str, Road], size: Size
) -> dict[str, Any]:
    """That each road is steered as ours is, and that this could be seen if it were not."""
    task, allowed = Task(PROMPT, 2, size.n_tokens), TOLERANCE[lens.device.type, size.dtype]
    wrote = {name: road(task).tokens for name, road in (unsteered | steered).items()}
    misses = {
        name: max(roads.shortfall(lens, doses, PROMPT, tokens) for tokens in rows) for name, rows in wrote.items()
    }
    if wrong := [name for name in steered if misses[name] > allowed]:
        raise RuntimeError(f"{', '.join(wrong)} wrote other words than our hooks would: {misses}.")
    if not min(misses[name] for name in unsteered) > 2 * allowed:
        raise RuntimeError(f"Plain and steered words are the same, so that nothing is shown: {misses}.")
    n_same = {name: sum(a == b for a, b in zip(wrote[name][0], wrote["ours"][0], strict=True)) for name in wrote}
    return {"n_tokens": task.n_tokens, "allowed": allowed, "shortfall": misses, "n_same_as_ours": n_same}


def race(everyone: dict[str, Road], task: Task, repeats: int) -> dict[str, Any]:
    """Tokens per second of each road, all rows together, and how many times as fast ours is when steered."""
    seconds = roads.interleaved(everyone, task, repeats)
    n = task.n_rows * task.n_tokens
    return {
        "words": "drawn" if task.temperature else "greedy",
        "n_rows": task.n_rows,
        "roads": {
            name: {
                "tokens_per_second": asdict(Spread.of([n / one for one in taken])),
                "ours_over_it": asdict(Spread.of([one / us for one, us in zip(taken, seconds["ours"], strict=True)])),
            }
            for name, taken in seconds.items()
        },
    }


def together(lens: Lens, steering: Steering, size: Size) -> Spread:
    """Tokens per second of four strengths in one batch, over those of the same four one after the other."""
    rows, sampling = [Row(PROMPT, steering.at(sigmas)) for sigmas in STRENGTHS], Sampling(0, max_tokens=size.n_tokens)
    both = {
        "together": roads.timed(lambda task: [list(text.tokens) for text in generate(lens, rows, sampling)]),
        "apart": roads.timed(lambda task: [list(generate(lens, [row], sampling)[0].tokens) for row in rows]),
    }
    seconds = roads.interleaved(both, Task(PROMPT, len(rows), size.n_tokens), size.repeats)
    return Spread.of([apart / one for one, apart in zip(seconds["together"], seconds["apart"], strict=True)])


def machine(device: Device) -> dict[str, Any]:
    """What the figures depend on."""
    from importlib.metadata import version

    import torch

    libraries = ("torch", "transformers", "transformer-lens")
    names = [line for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    return {
        "cpu": names[0].split(":")[1].strip() if names else platform.machine(),
        "n_cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        **({"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda} if device == "cuda" else {}),
    }


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def main(
    sizes: tuple[SizeName, ...] = ("demo",),
    device: Device = "cpu",
    checkpoint: Path = ROOT / "checkpoints" / "demo-10",
    peers_python: Path | None = None,
    repeats: int | None = None,
    n_tokens: int | None = None,
    rows: tuple[int, ...] | None = None,
    models: Path = MODELS,
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Measure, print the tables, and write their numbers where asked; `benchmarks.speed_page` makes the page.

    Args:
        sizes: Which models.
        device: Where all roads compute.
        checkpoint: The one that demo stands for.
        peers_python: An environment's python that has nnsight and pyvene; without it they are left out.
        repeats: Turns of all roads, after one that is not counted; each size has its own default.
        n_tokens: Tokens each row writes; likewise.
        rows: Batch sizes; likewise.
        models: Folder for models with random weights; those that are there are used again.
        as_json: File for the numbers.
    """
    peers = dict.fromkeys(("nnsight", "pyvene"), peers_python) if peers_python else {}
    found: dict[str, Any] = {"machine": machine(device), "sizes": []}
    say = partial(print, file=sys.stderr, flush=True)
    for name in sizes:
        asked = {"repeats": repeats, "n_tokens": n_tokens, "rows": rows}
        by_default = (ON_CUDA if device == "cuda" else SIZES)[name]
        size = Size(**{**asdict(by_default), **{key: value for key, value in asked.items() if value}})
        folder = checkpoint if name == "demo" else random_model(name, models, size.dtype)
        found["sizes"].append(measure_size(name, folder, device, size, peers, say))
    if "demo" in sizes and device == "cpu":
        found["seconds"] = waiting_seconds(checkpoint, PROMPT, STRENGTHS)
    print(page(found))
    if as_json:
        write_atomically(as_json, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
