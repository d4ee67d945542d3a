"""python -m lens check CHECKPOINT ...: whether a checkpoint is what its card says."""

from __future__ import annotations

import sys
from typing import Annotated

import tyro

from lens.check import check_checkpoint
from lens.opening import check_machine
from lens.terminal import Command, run_command

Checkpoints = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT ...")]


def check(
    checkpoints: Checkpoints, /, device: str = "auto", dtype: str | None = None, threads: int | None = None
) -> None:
    """Compare files, weights, config, tokenizer, end tokens and held-out loss with the card; status 1 if one is wrong.

    Args:
        checkpoints: Names in checkpoints/, or folders.
        device: auto, cpu, cuda or mps.
        dtype: float32 or bfloat16; float32 for small models unless told.
        threads: CPU threads.
    """
    check_machine(device, dtype, threads)
    if not checkpoints:
        raise ValueError("Name at least one checkpoint, such as demo-10 or a folder.")
    wrong = []
    for name in checkpoints:
        print(name)
        for part in check_checkpoint(name, device, dtype, threads):
            print(f"  {part}")
            wrong += [f"{name}: {part.part}"] if part.is_right is False else []
    if wrong:
        sys.exit(f"Not as it should be: {'; '.join(wrong)}.")


COMMANDS = {"check": Command(check, "Nothing was changed.")}


def main() -> None:
    """What `python -m lens` runs."""
    run_command(COMMANDS, "python -m lens")


if __name__ == "__main__":
    main()
