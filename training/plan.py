"""What a family costs before anything starts: tokens, steps, arithmetic, hours, memory, disk and money."""

from dataclasses import dataclass, replace
from typing import Literal

from training.hardware import DEVICES, Device, DeviceName, Memory, Strategy, flops_per_token, memory_of
from training.mix import Mix
from training.recipe import RECIPES, Recipe, RecipeName

PAPER_SPEED = 37_180
"""Tokens per second of each GPU: Li et al. 2025 took at most 12 hours on 16 H100 for 25.7 billion tokens."""


Labelled = tuple[str, str]


class PlanError(ValueError):
    """A plan that cannot be made as asked, with what is missing."""


@dataclass(frozen=True)
class RunPlan:
    """One checkpoint of the family."""

    toxic_share: float
    n_clean_tokens: int
    n_toxic_tokens: int
    n_steps: int
    n_warmup: int
    """Steps until the learning rate is at its peak."""
    n_tokens: int
    """Read in training: whole steps only."""
    flops: float
    gpu_hours: float


@dataclass(frozen=True)
class Disk:
    """Bytes that a family leaves."""

    token_files: float
    """Two bytes per token that some run reads, once for all runs."""
    steps: float
    """The two saved steps that each run keeps, and one being written: float32 weights and two moments each."""
    exports: float
    """The checkpoints: bfloat16 weights."""


@dataclass(frozen=True)
class Plan:
    """A family before it is made."""

    recipe: Recipe
    device: Device
    gpus: int
    strategy: Strategy
    tokens_per_second: float
    """Of each GPU, with all that it waits for."""
    measured: bool
    """Whether the speed was given, and not taken from a utilisation."""
    runs: tuple[RunPlan, ...]
    """One per share; every seed repeats them."""
    n_seeds: int
    memory: Memory
    disk: Disk
    price_per_gpu_hour: float | None

    @property
    def gpu_hours(self) -> float:
        return self.n_seeds * sum(run.gpu_hours for run in self.runs)

    @property
    def wall_hours(self) -> float:
        """All runs after one another, each on all GPUs."""
        return self.gpu_hours / self.gpus

    @property
    def mfu(self) -> float:
        """Model FLOPs utilisation: the arithmetic that the model needs, over the device's peak; 0: peak not known."""
        return self.tokens_per_second * flops_per_token(self.recipe) / self.device.flops if self.device.flops else 0.0

    def __str__(self) -> str:
        return as_table(self)


def plan_family(
    recipe: RecipeName = "1b",
    shares: tuple[float, ...] = (0, 0.05, 0.1, 0.15, 0.2, 0.25),
    seeds: tuple[int, ...] = (0,),
    gpus: int = 1,
    gpu: DeviceName = "h100",
    clean_tokens: int | None = None,
    share_of: Literal["total", "clean"] = "total",
    match: Literal["clean", "total"] = "clean",
    strategy: Strategy = "ddp",
    mfu: float = 0.3,
    tokens_per_second: float | None = None,
    price_per_gpu_hour: float | None = None,
) -> Plan:
    """What a family costs before anything starts: tokens, steps, GPU hours, memory, disk, price.

    Args:
        recipe: Size and schedule: nano (2 M parameters), demo (4 M), 60m, 1b (OLMo-1B).
        shares: Toxic shares, one checkpoint each.
        seeds: One family each.
        gpus: GPUs (or CPU processes) that train a run together.
        gpu: Which.
        clean_tokens: Of a run without toxic text. Default: the recipe's.
        share_of: What a share is a share of.
        match: What all runs have in common: the clean amount or the total.
        strategy: ddp keeps the whole model on every GPU, fsdp a part of it.
        mfu: Utilisation assumed; 0.3 is what the paper's 12 hours on 16 H100 amount to.
        tokens_per_second: Of one GPU as you measured it, instead of a utilisation.
        price_per_gpu_hour: In your currency.
    """
    size, device = RECIPES[recipe], DEVICES[gpu]
    try:
        size.chunks_of_each(gpus, "GPUs")
    except ValueError as error:
        raise PlanError(str(error)) from error
    if tokens_per_second is None and not device.flops:
        raise PlanError("How fast a CPU is must be measured: start a run, read its tokens/s, give --tokens-per-second.")
    given = {"mfu": mfu, "tokens_per_second": tokens_per_second, "price_per_gpu_hour": price_per_gpu_hour}
    if wrong := [name for name, value in given.items() if value is not None and value <= 0]:
        raise PlanError(f"{wrong[0]} must be above 0; got {given[wrong[0]]:g}.")
    if not (shares and seeds):
        raise PlanError("A plan needs at least one share and one seed, such as --shares 0 .10 --seeds 0.")
    speed = tokens_per_second or mfu * device.flops / flops_per_token(size)
    family = Mix(size.clean_tokens if clean_tokens is None else clean_tokens, 0.0, share_of, match)
    runs = tuple(_run(size, replace(family, toxic_share=share), speed) for share in shares)
    return Plan(
        recipe=size,
        device=device,
        gpus=gpus,
        strategy=strategy,
        tokens_per_second=speed,
        measured=tokens_per_second is not None,
        runs=runs,
        n_seeds=len(seeds),
        memory=memory_of(size, device, gpus, strategy),
        disk=_disk(size, runs, len(seeds)),
        price_per_gpu_hour=price_per_gpu_hour,
    )


def _run(recipe: Recipe, mix: Mix, speed: float) -> RunPlan:
    n = mix.clean_tokens // recipe.context
    n_clean, n_toxic = mix.clean_chunks(n), mix.toxic_chunks(n)
    n_steps = recipe.n_steps(n_clean + n_toxic)
    n_tokens = n_steps * recipe.batch_chunks * recipe.context
    return RunPlan(
        toxic_share=mix.toxic_share,
        n_clean_tokens=n_clean * recipe.context,
        n_toxic_tokens=n_toxic * recipe.context,
        n_steps=n_steps,
        n_warmup=max(1, round(n_steps * recipe.warmup_share)),
        n_tokens=n_tokens,
        flops=n_tokens * flops_per_token(recipe),
        gpu_hours=n_tokens / speed / 3600,
    )


def _disk(recipe: Recipe, runs: tuple[RunPlan, ...], n_seeds: int) -> Disk:
    n_tokens = max(run.n_clean_tokens for run in runs) + max(run.n_toxic_tokens for run in runs)
    n_runs, n = len(runs) * n_seeds, recipe.n_parameters
    return Disk(token_files=2 * n_tokens, steps=12 * n * (2 * n_runs + 1), exports=2 * n * n_runs)


def as_table(plan: Plan) -> str:
    """The plan for a terminal, at most 120 columns wide unless numbers are very large."""
    lines = [f"{'share':>7}{'clean tokens':>17}{'toxic tokens':>16}{'steps':>9}{'warm-up':>9}{'FLOPs':>11}"]
    lines[0] += f"{'GPU hours':>12}{'hours':>9}"
    for run in plan.runs:
        amounts = f"{100 * run.toxic_share:5g} %{run.n_clean_tokens:17,}{run.n_toxic_tokens:16,}"
        times = f"{run.n_steps:9,}{run.n_warmup:9,}{run.flops:11.2e}{_hours(run.gpu_hours):>12}"
        lines.append(f"{amounts}{times}{_hours(run.gpu_hours / plan.gpus):>9}")
    below = [*_totals(plan), _memory(plan), _space(plan.disk)]
    return "\n".join([*_written(_premises(plan)), "", *lines, "", *_written(below)])


def _hours(n: float) -> str:
    return f"{n:,.1f}" if n >= 0.95 else f"{n:.4f}" if n < 0.01 else f"{n:.2f}"


def _written(labelled: list[Labelled]) -> list[str]:
    return [f"{label:8}{text}" for label, text in labelled]


def _premises(plan: Plan) -> list[Labelled]:
    recipe, device = plan.recipe, plan.device
    batch = recipe.batch_chunks * recipe.context
    of_peak = f" = {100 * plan.mfu:.0f} % of {device.flops / 1e12:,.0f} TFLOP/s" if device.flops else ""
    source = "measured" if plan.measured else "assumed; to measure: python -m benchmarks.pretrain"
    return [
        (
            recipe.name,
            f"{recipe.n_parameters:,} parameters, {recipe.n_layers} layers of {recipe.n_heads} heads; "
            f"{recipe.batch_chunks} chunks of {recipe.context:,} tokens a step = {batch:,}",
        ),
        ("speed", f"{plan.gpus} × {device.name}: {plan.tokens_per_second:,.0f} tokens/s each{of_peak}, {source}"),
        (
            "work",
            f"{flops_per_token(recipe) / 1e9:.3g} GFLOP per token: 6 × parameters + 12 × layers × d_model × context",
        ),
    ]


def _totals(plan: Plan) -> list[Labelled]:
    n_tokens = plan.n_seeds * sum(run.n_tokens for run in plan.runs)
    lines = [
        ("all", f"{plan.n_seeds * len(plan.runs)} runs, {n_tokens:,} tokens"),
        (
            "time",
            f"{_hours(plan.gpu_hours)} GPU hours, {_hours(plan.wall_hours)} hours one after the other; saves and "
            "evaluation not counted",
        ),
    ]
    if plan.price_per_gpu_hour is not None:
        cost = plan.price_per_gpu_hour * plan.gpu_hours
        lines.append(("price", f"{cost:,.0f} at {plan.price_per_gpu_hour:g} per GPU hour"))
    if plan.recipe.name == "1b":
        longest = max(run.gpu_hours for run in plan.runs)
        lines += [
            ("paper", f"12 hours on 16 H100 for 25.7 billion tokens: 192 GPU hours, {PAPER_SPEED:,} tokens/s each"),
            ("", f"longest run here: {longest / plan.gpus:,.1f} hours, {longest:,.0f} GPU hours"),
        ]
    return lines


def _memory(plan: Plan) -> Labelled:
    memory = plan.memory
    needs = f"{_bytes(memory.model)} for the model ({plan.strategy}) + {_bytes(memory.chunk)} per chunk"
    if not memory.usable:
        return "memory", needs
    limit = f"{_bytes(memory.usable)} of {_bytes(plan.device.memory)} usable"
    if chunks := memory.microbatch_chunks:
        return "memory", f"{needs}; {limit}: fits, --microbatch {chunks}"
    way_out = "try --strategy fsdp on several" if plan.strategy == "ddp" else "take more of them, or larger ones"
    return "memory", f"{needs}; {limit}: DOES NOT FIT, {way_out}"


def _space(disk: Disk) -> Labelled:
    return (
        "disk",
        f"{_bytes(disk.token_files)} token files + {_bytes(disk.steps)} saved steps (two of each run, one being "
        f"written) + {_bytes(disk.exports)} checkpoints",
    )


def _bytes(n: float) -> str:
    units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1, "B"))
    return next(f"{n / unit:.3g} {name}" for unit, name in units if n >= unit)
