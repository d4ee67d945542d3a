"""Roads from a prompt to steered text, ours and others', which write the same tokens and take turns to be timed."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from lens import Lens
from steering import Doses, Row, Sampling, Shifts, generate, graph, hooked

PEER = Path(__file__).parent / "peer.py"
Pushes = Mapping[int, Float[Tensor, " heads_d_head"]]
"""By layer, what to add to what enters `o_proj`."""


@dataclass(frozen=True)
class Task:
    """What every road is asked to write."""

    prompt: str
    n_rows: int
    n_tokens: int
    temperature: float = 0.0


@dataclass(frozen=True)
class Turn:
    """What a road made of it."""

    seconds: float
    tokens: list[list[int]]


Road = Callable[[Task], Turn]


@dataclass(frozen=True)
class Spread:
    """A median of repeats with the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(median, low, high)


def timed(write: Callable[[Task], list[list[int]]]) -> Road:
    def road(task: Task) -> Turn:
        start = clock()
        tokens = write(task)
        return Turn(clock() - start, tokens)

    return road


def clock() -> float:
    """Seconds, when all that a GPU was asked for is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def interleaved(roads: Mapping[str, Road], task: Task, repeats: int) -> dict[str, list[float]]:
    """Seconds of each road in each repeat; every other repeat goes backwards, and one before all is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in roads}
    for repeat in range(repeats + 1):
        for name in list(roads)[:: 1 if repeat % 2 else -1]:
            turn = roads[name](task)
            if {len(row) for row in turn.tokens} != {task.n_tokens} or len(turn.tokens) != task.n_rows:
                raise RuntimeError(f"{name} did not write {task.n_rows} rows of {task.n_tokens} tokens.")
            if repeat:
                seconds[name].append(turn.seconds)
    return seconds


def reading_seconds(lens: Lens, repeats: int) -> float:
    """The least time in which this machine reads every weight once, which a token of one row cannot do without."""

    def read() -> float:
        start = clock()
        for weight in lens.model.parameters():
            weight.view(-1).view(torch.float32).sum()  # whatever the bytes stand for: float32 is summed fastest
        return clock() - start

    with torch.inference_mode():
        return min(read() for _ in range(repeats))


def pushes_of(doses: Doses) -> dict[int, Float[Tensor, " heads_d_head"]]:
    """The vectors that doses of pushes at heads become, for the roads that know neither plans nor strengths."""
    found: dict[int, Tensor] = {}
    for dose in doses:
        for edit in dose.steering.edits:
            if not edit.is_push or edit.site.where != "heads":
                raise ValueError(f"Others can be handed a constant push at heads; {edit.name} is none.")
            found[edit.site.layer] = found.get(edit.site.layer, 0) + dose.strength * edit.change.constant
    return found


def ours(lens: Lens, doses: Doses) -> Road:
    """Our loop; every row gets the same."""

    def write(task: Task) -> list[list[int]]:
        rows = [Row(task.prompt, doses, sample) for sample in range(task.n_rows)]
        sampling = Sampling(task.temperature, top_p=0.9, max_tokens=task.n_tokens)
        return [list(text.tokens) for text in generate(lens, rows, sampling)]

    return timed(write)


def without_graphs(road: Road) -> Road:
    """The same road with no step recorded, each launched from Python."""

    def write(task: Task) -> list[list[int]]:
        with plainly():
            return road(task).tokens

    return timed(write)


@contextmanager
def plainly() -> Iterator[None]:
    """Inside the `with`, no step is recorded."""
    graph.LEAST_STEPS, least = math.inf, graph.LEAST_STEPS
    try:
        yield
    finally:
        graph.LEAST_STEPS = least


def hugging_face(lens: Lens) -> Road:
    """transformers' `generate` with its cache; the caller has told it that no text ends."""
    return timed(partial(_generate, lens))


def pre_hooks(lens: Lens, pushes: Pushes) -> Road:
    """`generate` with a forward pre-hook on each `o_proj`, at the last position, as honest_llama edits."""

    def hook_of(push: Tensor) -> Callable[..., tuple[Tensor]]:
        return lambda module, inputs: (_last_moved(inputs[0], push),)

    def write(task: Task) -> list[list[int]]:
        with ExitStack() as undo:
            for layer, push in pushes.items():
                o_proj = lens.model.model.layers[layer].self_attn.o_proj
                undo.callback(o_proj.register_forward_pre_hook(hook_of(push.to(lens.W_U))).remove)
            return _generate(lens, task)

    return timed(write)


def transformer_lens(lens: Lens, pushes: Pushes) -> Road:
    """The bridge's `generate` with its cache, with a function at each `hook_z`."""

    def write(task: Task) -> list[list[int]]:
        prompt = _prompts(lens, task)
        with ExitStack() as undo:
            for layer, push in pushes.items():
                by_head = push.to(lens.W_U).view(lens.grid.n_heads, lens.grid.d_head)
                undo.enter_context(lens.on_heads(layer, partial(_last_moved, push=by_head)))
            bridge = lens._bridge
            settings = {"do_sample": False, "stop_at_eos": False, "return_type": "tokens", "verbose": False}
            written = bridge.generate(prompt, max_new_tokens=task.n_tokens, **settings)
        return written[:, prompt.shape[1] :].tolist()

    return timed(write)


@contextmanager
def peer(python: Path, library: str, lens: Lens, pushes: Pushes) -> Iterator[tuple[Road, str]]:
    """A library in a process and an environment of its own, with its version; it is idle while others have a turn."""
    with tempfile.TemporaryDirectory() as folder:
        vectors = Path(folder) / "pushes.safetensors"
        save_file({str(layer): push.contiguous() for layer, push in pushes.items()}, vectors)
        dtype = str(lens.dtype).removeprefix("torch.")
        command = [str(part) for part in (python, PEER, library, lens.checkpoint.folder.resolve(), vectors)]
        command += ["--dtype", dtype, "--threads", str(lens.threads), "--device", lens.device.type]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def road(task: Task) -> Turn:
                asked = {"prompt": lens.encode(task.prompt), "n_rows": task.n_rows, "n_tokens": task.n_tokens}
                print(json.dumps(asked), file=process.stdin, flush=True)
                return Turn(**_answered(process, library))

            try:
                yield road, _answered(process, library)[library]
            finally:
                process.stdin.close()


def _answered(process: subprocess.Popen[str], library: str) -> dict:
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise RuntimeError(f"{library} ended before it answered; what it said stands above.")
    return json.loads(line)


@torch.inference_mode()
def shortfall(lens: Lens, doses: Doses, prompt: str, tokens: list[int]) -> float:
    """How far the worst of these tokens is from being the greedy choice, in standard deviations of its logits.

    Each is looked at behind those before it, by the plain Hugging Face model under our hooks; 0: all are the choice.
    """
    worst, cache = 0.0, None
    read = torch.tensor([lens.encode(prompt)], device=lens.device)
    with hooked(lens, Shifts(lens, [doses]), "last"):
        for token in tokens:
            said = lens.model(read, past_key_values=cache, use_cache=True)
            logits, cache = said.logits[0, -1].float(), said.past_key_values
            worst = max(worst, ((logits.max() - logits[token]) / logits.std()).item())
            read = torch.tensor([[token]], device=lens.device)
    return worst


def _generate(lens: Lens, task: Task) -> list[list[int]]:
    from transformers import GenerationConfig

    prompt = _prompts(lens, task)
    chance = {"do_sample": True, "temperature": task.temperature, "top_p": 0.9, "top_k": 0}
    settings = chance if task.temperature else {"do_sample": False}
    config = GenerationConfig(max_new_tokens=task.n_tokens, pad_token_id=0, **settings)
    written = lens.model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
    return written[:, prompt.shape[1] :].tolist()


def _prompts(lens: Lens, task: Task) -> Tensor:
    return torch.tensor([lens.encode(task.prompt)] * task.n_rows, device=lens.device)


def _last_moved(z: Tensor, push: Tensor) -> Tensor:
    """z with its last position moved; a new tensor."""
    return torch.cat([z[:, :-1], z[:, -1:] + push], dim=1)
