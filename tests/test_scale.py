"""What docs/scale.md and docs/method.md say of training follows from the code: commands, options, numbers."""

from __future__ import annotations

import io
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tyro

pytest.importorskip("olmo", reason="training needs Python 3.11 or 3.12")

from training.hardware import flops_per_token
from training.plan import as_table, plan_family
from training.recipe import RECIPES

ROOT = Path(__file__).parent.parent
SCALE = (ROOT / "docs" / "scale.md").read_text()
COMMANDS = [
    command
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", SCALE, re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
    if re.match(r"(srun .*)?(python -m|torchrun|hf) ", command)
]
"""Every line of the page that a reader types, or that Slurm runs."""


def parts(command: str) -> list[tuple[list[str], list[str]]]:
    """A command as programs with the options that each is given; torchrun and what it starts are two."""
    words = shlex.split(command)
    words = words[words.index("torchrun") :] if "torchrun" in words else words
    if words[0] == "hf":
        return [(words[:2], options(words))]
    split = words.index("-m")
    module = words[split + 1 : split + (2 if words[split + 1].startswith("benchmarks") else 3)]
    launched = (["python", "-m", *module], options(words[split + 2 :]))
    return [(["torchrun"], options(words[:split])), launched] if words[0] == "torchrun" else [launched]


def options(words: list[str]) -> list[str]:
    return [word.split("=")[0] for word in words if word.startswith("--")]


@cache
def help_of(program: tuple[str, ...]) -> str:
    """What a program answers to --help, asked in this process: its imports are here already."""
    modules = {"torchrun": ["torch.distributed.run"], "hf": ["huggingface_hub.cli.hf", "download"]}
    module, *verb = modules.get(program[0], program[2:])
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as written:
        patch.setattr(sys, "argv", [module, *verb, "--help"])
        with suppress(SystemExit):
            runpy.run_module(module, run_name="__main__")
    return written.getvalue().replace("_", "-")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_has_only_options_that_exist(command: str) -> None:
    for program, used in parts(command):
        for option in used:
            assert re.search(rf"{option}(?![\w-])", help_of(tuple(program))), f"{program} {option}"


def test_options_in_the_pages_sentences_exist() -> None:
    prose = re.sub(r"```.*?```", "", SCALE + (ROOT / "docs" / "method.md").read_text(), flags=re.DOTALL)
    named = {option for code in re.findall(r"`([^`]+)`", prose) for option in options(code.split())}
    training = [("python", "-m", "training", verb) for verb in ("run", "plan", "pretrain", "export")]
    steps = (("probes", "fit"), ("steering", "generate"), ("evaluation", "sweep"))
    known = " ".join(map(help_of, [*training, *(("python", "-m", *step) for step in steps), ("torchrun",)]))
    assert not {option for option in named if not re.search(rf"{option}(?![\w-])", known)}


def test_the_commands_are_found_and_split() -> None:
    assert len(COMMANDS) >= 12
    [slurm] = [command for command in COMMANDS if command.startswith("srun")]
    (torchrun, launch), (pretraining, own) = parts(slurm)
    assert (torchrun, pretraining) == (["torchrun"], ["python", "-m", "training", "pretrain"])
    assert ("--rdzv-endpoint" in launch, own) == (True, ["--patience-s"])


def test_scripts_of_the_page_are_shell() -> None:
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", SCALE, re.DOTALL):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True, capture_output=True)


def test_the_page_shows_what_the_plan_says() -> None:
    planned = next(command for command in COMMANDS if "training plan" in command)
    plan = tyro.cli(plan_family, args=shlex.split(planned)[4:])
    assert f"```text\n{as_table(plan)}\n```" in SCALE
    hours = [run.gpu_hours for run in plan.runs]
    step = 12 * plan.recipe.n_parameters / 1e9
    for words in (
        f"One run of 20.1 billion tokens takes {hours[0]:.0f} GPU hours",
        f"{min(hours) / 8:.1f} to {max(hours) / 8:.1f} hours a run, {plan.gpu_hours / 8:.0f} hours for twelve",
        f"{plan.wall_hours:.0f} hours on 16 GPUs at the assumed speed ({hours[0] / 16:.1f} to {hours[-1] / 16:.1f} ",
        f"needs {plan.memory.model / 1e9:.1f} GB for weights, gradients and AdamW",
        f"{step:.1f} GB are saved some fifty times a run",
        f"{plan.disk.steps / 1e9:.0f} GB of saved steps if the runs' folders stay, {3 * step:.0f} GB at a time",
        f"every run has {plan.runs[0].n_steps:,} steps",
    ):
        assert words in " ".join(SCALE.split()), words


def test_the_methods_numbers_of_a_schedule_follow_from_the_recipe() -> None:
    method, [run] = " ".join((ROOT / "docs" / "method.md").read_text().split()), plan_family("1b", (0,)).runs
    batch, recipe = RECIPES["1b"].batch_chunks * 2048, RECIPES["1b"]
    official = 20.1e9 / 2048**2
    for words in (
        f"it would make {official:,.0f} steps, and OLMo's 2,000 steps of warm-up would be {2000 / official:.0%}",
        f"a quarter, {recipe.batch_chunks} chunks: {batch / 1e6:.2f} million tokens, {run.n_steps:,} steps",
        f"2 % of them ({run.n_warmup} steps, {run.n_warmup * batch / 1e9:.1f} billion tokens)",
        f"the forward pass's logits, {2 * recipe.rows * recipe.d_model / flops_per_token(recipe):.1%}",
    ):
        assert words.replace("%", " %").replace("  ", " ") in method, words


def test_the_pages_count_of_c4_shards_follows_from_what_it_says() -> None:
    n_documents, n_shards = 364_868_892, 1024
    text = 828.6e9 - 135 * n_documents
    a_shard = (text / 4.58 + n_documents) / n_shards  # an end of text behind every document
    assert f"with {a_shard / 1e6:.0f} million tokens in each" in SCALE
    assert f"are {np.ceil(20.1e9 / a_shard):.0f} shards" in " ".join(SCALE.split())
