"""How fast a recipe trains here, against ai2-olmo as its authors configured it.

python -m benchmarks.pretrain --recipe 1b --json pretrain.json

Both roads take whole steps of the same model on the same random tokens: forward, backward, clipping, AdamW. Ours is
what `python -m training pretrain` builds; theirs is ai2-olmo's Trainer with the settings of the published OLMo-1B
configuration: FSDP around the whole model, mixed precision, eager, microbatches of 8 chunks, no activation
checkpointing. They take turns, each on an emptied device, and the first steps of a turn are not counted; a ratio is
taken within a repeat and reported as the median. Reading data is left out of both. Under torchrun tokens/s are those of
one process. Without a GPU all of it runs on the CPU, where the figures say nothing about a GPU.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.distributed as dist
import tyro
from olmo.config import FSDPConfig, FSDPPrecision
from olmo.model import OLMo
from olmo.optim import build_optimizer, build_scheduler
from olmo.train import Trainer
from torch.utils.data import DataLoader

from lens.terminal import run_function
from training import build, mix, pretrain
from training.circumstances import circumstances
from training.conduct import Conduct
from training.config import train_config
from training.hardware import DEVICES, Device, Strategy, flops_per_token
from training.recipe import RECIPES, RecipeName
from training.run import Run

WORK = Path(__file__).parent.parent / "runs" / "benchmark"
AIM_TOKENS_PER_SECOND = 50_000
"""Of the 1b recipe on one H200."""
Build = Callable[[Run, Path, torch.device, Conduct], Trainer]
Turn = dict[str, float]
Repeat = dict[str, Turn]
"""A turn of each road."""


def ours(run: Run, folder: Path, device: torch.device, conduct: Conduct) -> Trainer:
    """The trainer that `python -m training pretrain` starts."""
    return build.trainer_of(run, mix.chunks_of(folder), folder, device, conduct)


def theirs(run: Run, folder: Path, device: torch.device, conduct: Conduct) -> Trainer:
    """ai2-olmo's Trainer as the project's OLMo-1B.yaml and training script set it up."""
    eager, published = replace(run, compiled=False), replace(conduct, strategy="fsdp", microbatch=8)
    config = train_config(eager, len(mix.chunks_of(folder)), folder, published, dist.get_world_size())
    config.fsdp = FSDPConfig(wrapping_strategy=None, precision=FSDPPrecision.mixed)
    model = OLMo(config.model).to(device)
    spread = build.spread_over(model, config, device)
    return Trainer(
        cfg=config,
        epoch=0,
        model=model,
        dist_model=spread,
        optim=build_optimizer(config, spread),
        scheduler=build_scheduler(config),
        train_loader=DataLoader([]),  # type: ignore[arg-type]  # as torch's own examples have it
        device=device,
        evaluators=[],
    )


def turn(build: Build, run: Run, folder: Path, device: torch.device, conduct: Conduct, n_steps: int) -> Turn:
    """Tokens per second of each process over `n_steps` steps, and the most memory that was taken."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = build(run, folder, device, conduct)
    trainer.dist_model.train()
    shape = (trainer.cfg.device_train_batch_size, run.recipe.context)
    ids = torch.randint(2, run.recipe.rows, shape, generator=torch.Generator().manual_seed(dist.get_rank()))
    for _ in range(2):  # compiling, and the first allocation of everything
        trainer.train_step({"input_ids": ids})
    start = time.perf_counter()
    for _ in range(n_steps):
        trainer.train_step({"input_ids": ids})  # waits for the device: it returns the loss
    seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    del trainer  # what compiled code and cycles hold on to, too: the other road gets an empty device
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
    return {"tokens_per_second": n_steps * ids.numel() / seconds, "peak_bytes": float(peak)}


def measure(run: Run, folder: Path, device: torch.device, conduct: Conduct, n_steps: int, n: int) -> list[Repeat]:
    """Both roads in each of n repeats; every other repeat goes backwards."""
    roads: dict[str, Build] = {"ours": ours, "theirs": theirs}
    found = []
    for repeat in range(n):
        order = list(roads) if repeat % 2 else list(reversed(roads))
        found.append({name: turn(roads[name], run, folder, device, conduct, n_steps) for name in order})
    return found


def summary(repeats: list[Repeat], run: Run, conduct: Conduct, n_steps: int) -> dict[str, Any]:
    """What was measured, on what, as plain values."""
    here = circumstances(conduct, dist.get_world_size())
    device = known(here["hardware"])
    ratios = [each["ours"]["tokens_per_second"] / each["theirs"]["tokens_per_second"] for each in repeats]
    return {
        "recipe": run.recipe.name,
        "n_parameters": run.recipe.n_parameters,
        "context": run.recipe.context,
        "chunks_a_step": run.recipe.batch_chunks,
        "compiled": run.compiled,
        "n_steps": n_steps,
        "repeats": len(repeats),
        **here,
        "versions": {**here["versions"], "cuda": torch.version.cuda, "ai2-olmo": version("ai2-olmo")},
        "gflop_per_token": flops_per_token(run.recipe) / 1e9,
        "peak_tflops": device.flops / 1e12 if device else None,
        "roads": {name: road(repeats, name, run, device) for name in ("ours", "theirs")},
        "ours_over_theirs": {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)},
        "aim_tokens_per_second": AIM_TOKENS_PER_SECOND if run.recipe.name == "1b" else None,
    }


def road(repeats: list[Repeat], name: str, run: Run, device: Device | None) -> dict[str, Any]:
    """Medians of one road."""
    speed = statistics.median(each[name]["tokens_per_second"] for each in repeats)
    return {
        "tokens_per_second": speed,
        "mfu": speed * flops_per_token(run.recipe) / device.flops if device else None,
        "peak_gigabytes": max(each[name]["peak_bytes"] for each in repeats) / 1e9,
    }


def known(hardware: str) -> Device | None:
    """The device whose peak is known by its name; the PCIe H100 is another one."""
    words = hardware.lower().replace(" ", "").replace("nvidia", "")
    return next((d for d in DEVICES.values() if d.flops and d.name in words and "pcie" not in words), None)


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        f"{found['recipe']} ({found['n_parameters']:,} parameters) on {found['hardware']}, {found['processes']} "
        f"process(es), {found['chunks_a_step']} chunks of {found['context']:,} tokens a step; torch "
        f"{found['versions']['torch']}; medians of {found['repeats']} repeats of {found['n_steps']} steps.",
        "",
        "| | tokens/s | MFU | peak memory (GB) |",
        "|---|---:|---:|---:|",
    ]
    for name, figures in found["roads"].items():
        mfu = f"{100 * figures['mfu']:.1f} %" if figures["mfu"] else "not known"
        lines.append(f"| {name} | {figures['tokens_per_second']:,.0f} | {mfu} | {figures['peak_gigabytes']:.1f} |")
    ratio = found["ours_over_theirs"]
    lines += ["", f"Ours ÷ theirs: {ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})."]
    if aim := found["aim_tokens_per_second"]:
        lines[-1] += f" Aim: {aim:,} tokens/s on one H200."
    return "\n".join(lines)


def prepared(run: Run, folder: Path, chunks: int) -> Run:
    """A run of one file of random tokens, one step long, in a folder that all processes see."""
    file, n_chunks = folder / "tokens.npy", chunks * dist.get_world_size()
    if dist.get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        n_tokens = n_chunks * run.recipe.context
        np.random.default_rng(0).integers(2, run.recipe.rows, n_tokens).astype("<u2").tofile(file)
        nothing = np.empty(0, dtype=np.uint32)
        mix.write(folder, mix.Order(np.arange(n_chunks), 0, run.recipe.context, nothing, nothing), {})
    dist.barrier()
    return replace(run, files=(str(file),), recipe=replace(run.recipe, batch_chunks=n_chunks))


def main(
    recipe: RecipeName = "1b",
    chunks: int = 32,
    strategy: Strategy = "ddp",
    microbatch: int | None = None,
    compiled: bool = True,
    n_steps: int = 10,
    repeats: int = 3,
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Measure, print the table, and write the numbers where asked.

    Args:
        recipe: What to train.
        chunks: Of one process in one step; 32 is what each of 16 GPUs gets of the 1b recipe.
        strategy: Of ours.
        microbatch: Chunks at a time, of ours. Default: the recipe's.
        compiled: Whether ours is compiled.
        n_steps: Counted steps of each turn.
        repeats: Turns of each road.
        as_json: File for the numbers.
    """
    conduct = Conduct(strategy=strategy, microbatch=microbatch)
    with pretrain.process_group(conduct) as device:
        blank = Run(RECIPES[recipe], 0, (), eos=0, pad=1, precision="amp_bf16", compiled=compiled)
        run = prepared(blank, WORK, chunks)
        found = summary(measure(run, WORK, device, conduct, n_steps, repeats), run, conduct, n_steps)
        if dist.get_rank() == 0:
            print(table(found))
            if as_json:
                as_json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
