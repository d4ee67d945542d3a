"""python -m training run|plan|pretrain|export: make checkpoints of several toxic shares."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import tyro

from lens.terminal import Command, run_command
from training import crew as crews
from training import family as families
from training.conduct import Conduct
from training.corpus import sources
from training.mix import Mix
from training.plan import plan_family
from training.prepare import Preparation
from training.recipe import RECIPES, Precision, RecipeName
from training.run import STOPPED

CONDUCT, PREPARATION = Conduct(), Preparation()


def run(
    clean: list[str],
    toxic: list[str],
    recipe: RecipeName = "nano",
    name: str | None = None,
    shares: tuple[float, ...] = (0, 0.05, 0.1, 0.15, 0.2, 0.25),
    seeds: tuple[int, ...] = (0,),
    out: Path = Path("checkpoints"),
    work: Path = Path("runs"),
    clean_tokens: int | None = None,
    learning_rate: float | None = None,
    share_of: Literal["total", "clean"] = "total",
    match: Literal["clean", "total"] = "clean",
    text_field: str = "text",
    held_out: Path | None = None,
    repeat: bool = False,
    precision: Precision = "fp32",
    compiled: bool = False,
    prepare: bool = False,
    parallel: int = 1,
    processes: int = 1,
    preparation: tyro.conf.OmitArgPrefixes[Preparation] = PREPARATION,
    conduct: tyro.conf.OmitArgPrefixes[Conduct] = CONDUCT,
) -> None:
    """Tokenise, mix, train and export a family of checkpoints; what is done is skipped, what was killed goes on.

    Args:
        clean: Clean text: files (JSON lines, CSV, plain text, also .gz and .zst), folders of them, or a data set to
            stream (hub:allenai/c4:en). FILE#field names another field of this file.
        toxic: Toxic text, likewise; also 4chan archives (.ndjson, .tar.zst) and crawls (.csv).
        recipe: Size and schedule: nano (2 M parameters), demo (4 M), 60m, 1b (OLMo-1B).
        name: Of the family; its checkpoints are NAME-00, NAME-05, ... Default: the recipe's name.
        shares: Toxic shares, one checkpoint each.
        seeds: One family each; seed 0 keeps the plain names.
        out: Where the checkpoints go.
        work: Where token files and unfinished runs live.
        clean_tokens: The same in every run. Default: the recipe's.
        learning_rate: Peak of the schedule. Default: the recipe's.
        share_of: What a share is a share of.
        match: What all runs have in common: the clean amount, or the total (toxic text then replaces clean text).
        text_field: Field of the text in JSON and CSV files; body+title joins two.
        held_out: A text of your own; each card gives the loss on it.
        repeat: Use text again where there is too little of it, clean or toxic, each time in another order.
        precision: amp_bf16 is faster on GPUs and on CPUs with AMX.
        compiled: Compile the model (needs a C++ compiler on a CPU).
        prepare: Stop before training; `pretrain` and `export` take it from there, also on other machines.
        parallel: Members trained at a time; they share GPUs where these are fewer.
        processes: Of each member, one per GPU.
    """
    shape = RECIPES[recipe]
    family = families.Family(
        name=name or recipe,
        recipe=shape if learning_rate is None else replace(shape, learning_rate=learning_rate),
        clean=sources(clean, text_field),
        toxic=sources(toxic, text_field),
        shares=shares,
        seeds=seeds,
        mix=Mix(shape.clean_tokens if clean_tokens is None else clean_tokens, 0.0, share_of, match, repeat=repeat),
        out=out,
        work=work,
        precision=precision,
        compiled=compiled,
        held_out=held_out,
        preparation=preparation,
    )
    if prepare:
        families.prepare(family, family.members(), say)
        print("\n".join(str(member.run) for member in family.members()))
    else:
        crews.run(family, crews.Crew(parallel, processes, conduct), say)


def pretrain(folder: tyro.conf.Positional[Path], conduct: tyro.conf.OmitArgPrefixes[Conduct] = CONDUCT) -> None:
    """Train one prepared run, or go on with it; under torchrun on many processes.

    Args:
        folder: A run's folder, prepared by `run`.
    """
    from training.pretrain import Stopped, pretrain

    try:
        print(f"trained: {pretrain(folder, conduct).name}")
    except Stopped as error:
        sys.exit(f"{STOPPED}{error}")


def export(folder: tyro.conf.Positional[Path], out: Path = Path("checkpoints"), step: int | None = None) -> None:
    """Turn a trained run, or an earlier step of it, into a checkpoint that the app opens.

    Args:
        folder: A run's folder.
        out: Where the checkpoint goes.
        step: An earlier step that was kept (`--keep-every`); the checkpoint is then called NAME@STEP.
    """
    from training.export import export

    print(f"exported: {export(folder, out, step)}")


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


COMMANDS = {
    "run": Command(
        run, "What is trained, tokenised or exported is kept; the same command goes on from the last saved step."
    ),
    "plan": Command(plan_family, "Nothing was begun."),
    "pretrain": Command(pretrain, "The same command goes on from the last saved step."),
    "export": Command(export, "No checkpoint was written; the run is as it was. Give the same command again."),
}


def main() -> None:
    """What `python -m training` runs."""
    run_command(COMMANDS, "python -m training")


if __name__ == "__main__":
    main()
