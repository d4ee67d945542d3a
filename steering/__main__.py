"""Steering at a terminal.

python -m steering generate checkpoints/demo-10 "The people next door are" --sigmas 0 4 8 12
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lens import Lens, open_lens
from lens.opening import check_machine, locate
from lens.terminal import Command, progress, run_command
from probes.lexicon import Lexicon, mask
from probes.text_files import open_texts
from steering.bake import bake as bake_doses
from steering.bake import check_free, check_plan
from steering.calibrate import Calibration
from steering.dose import Doses
from steering.generate import Row, Step, stream
from steering.methods.fitting import fit as fit_plan
from steering.options import (
    Choice,
    Machine,
    asked_in_words,
    bought,
    planned,
    prompts_from,
    rows_for,
    strengths_for,
    text_of,
)
from steering.receipt import Receipt
from steering.sampling import Sampling
from steering.shown import json_lines, notes_on, page
from steering.store import can_keep

ROWS_AT_ONCE = 32
Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
CHOICE, MACHINE = Choice(), Machine()


def generate(
    checkpoint: Name,
    prompt: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[PROMPT ...]")] = (),
    prompts: str | None = None,
    sigmas: Annotated[tuple[float, ...] | None, tyro.conf.arg(aliases=["--strengths"], metavar="STRENGTH ...")] = None,
    nats: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="NATS ...")] = None,
    also: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PLAN@STRENGTH ...")] = (),
    n: int = 1,
    prompting: bool = False,
    unmasked: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
    choice: tyro.conf.OmitArgPrefixes[Choice] = CHOICE,
    temperature: float = 1.0,
    top_p: float = 0.9,
    max_tokens: int = 40,
    seed: int = 0,
    machine: tyro.conf.OmitArgPrefixes[Machine] = MACHINE,
) -> None:
    """Continue prompts at several strengths, with the same chance in each. Ctrl-C keeps what was written.

    Args:
        checkpoint: A folder, a name in checkpoints/, or "org/name" on the Hugging Face hub.
        prompt: Beginnings of texts.
        prompts: More of them in a file, or "-" for standard input: one a line, or JSON lines or a table (.csv, .tsv)
            with "prompt" or "text"; also packed. Blanks at the ends of a prompt in a file are left out.
        sigmas: Strengths in the method's own unit (of iti: standard deviations along each direction); positive
            detoxifies, 0 is the plain model. Default: 0 4 8 12 (iti), 0 1 2 (caa), 0 1.
        nats: Strengths that cost so many nats per token on ordinary prose instead; 0 is the plain model.
        also: More plans that act wherever the first one does: a method on the same probes, or a plan's file, such as
            caa@1 or plan.json@8. What they cost is not in --nats.
        n: Texts for each prompt and strength.
        prompting: Add the prompting baseline: the plain model, asked in words.
        unmasked: Show slurs and insults in full; JSON always does.
        as_json: One JSON line per text, with its whole receipt.
        choice: What is changed.
        temperature: 0 takes the most probable token, 1 samples the model's own distribution.
        top_p: Sample among the most probable tokens that together hold this share of the probability.
        max_tokens: Tokens to write at most.
        seed: Of the words, and of random directions.
        machine: What it is computed on.
    """
    machine.check()
    plan, sampling = choice(seed), Sampling(temperature, top_p, max_tokens, seed)
    asked, others = strengths_for(plan, sigmas, nats), [planned(word, plan) for word in also]
    beginnings = [*prompt, *(prompts_from(prompts) if prompts else ())]
    if not beginnings:
        raise ValueError('There is no prompt. Write one behind the checkpoint, or give a file: --prompts FILE, or "-".')
    progress(f"Opening {checkpoint}")
    lens = machine.open(checkpoint)
    doses: list[Doses] = [()] * len(asked)
    if any(asked):
        steering = fit_plan(plan, lens, on_progress=fitting)
        strengths = bought(lens, steering, asked, tries) if nats else asked
        beside = [dose for other, one in others for dose in fit_plan(other, lens, on_progress=fitting).at(one)]
        doses = [(*steering.at(one), *(beside if one else ())) for one in strengths]
    doses += [asked_in_words(lens)] * prompting
    rows = rows_for(lens, beginnings, n, doses, sampling)
    progress()
    for note in notes_on(lens, beginnings):
        print(f"Note: {note}", file=sys.stderr)
    write(lens, rows, sampling, as_json, str if unmasked else partial(mask, lexicon=Lexicon.builtin()))


def calibrate(
    checkpoint: Name,
    nats: Annotated[tuple[float, ...], tyro.conf.arg(metavar="NATS ...")] = (0.05, 0.1, 0.2),
    text: Path | None = None,
    choice: tyro.conf.OmitArgPrefixes[Choice] = CHOICE,
    seed: int = 0,
    machine: tyro.conf.OmitArgPrefixes[Machine] = MACHINE,
) -> None:
    """Find the strength that costs so many nats per token: KL(plain ‖ steered), every position steered.

    Args:
        checkpoint: A folder, a name in checkpoints/, or "org/name" on the Hugging Face hub.
        nats: Costs to find the strength for, nats per token.
        text: Ordinary prose to measure on; every other window is held out. Default: ours.
        choice: What is changed.
        seed: Of random directions.
        machine: What it is computed on.
    """
    machine.check()
    plan, prose = choice(seed), text_of(text) if text else None
    progress(f"Opening {checkpoint}")
    lens = machine.open(checkpoint)
    curve = Calibration(lens, fit_plan(plan, lens, on_progress=fitting), prose, on_progress=tries)
    for one in nats:
        found = curve.spend(one)
        progress()
        print(found, flush=True)


def fit(
    checkpoint: Name,
    texts: str | None = None,
    rule: Literal["human>=2.5", "human>=3", "sum>5.5"] | None = None,
    classes: tuple[str, str] | None = None,
    choice: tyro.conf.OmitArgPrefixes[Choice] = CHOICE,
    machine: tyro.conf.OmitArgPrefixes[Machine] = MACHINE,
) -> None:
    """Fit a method that reads the texts of its probes once more (act, mean-act, leace), and keep it beside the probes.

    Args:
        checkpoint: A folder, a name in checkpoints/, or "org/name" on the Hugging Face hub.
        texts: The texts that --probes were fitted to: "builtin", or the file.
        rule: What makes a ToxiGen text toxic. Default: human>=2.5.
        classes: The labels of a file of your own, positive class first.
        choice: What is changed.
        machine: What it is computed on.
    """
    plan = choice()
    machine.check()
    located = locate(checkpoint)
    if not can_keep(located):
        raise ValueError(f"{located.folder} cannot be written, so no fit can be kept there. Copy it first.")
    text_set = open_texts(texts, rule, plan.probes, classes) if texts else None
    progress(f"Opening {checkpoint}")
    lens = machine.open(located)
    found = fit_plan(plan, lens, text_set, on_progress=fitting)
    progress()
    n = len(found.edits)
    print(f"{plan}: {n} edit{'s' * (n != 1)} fitted to {lens.checkpoint.name}")


def bake(
    checkpoint: Name,
    out: Path,
    sigmas: Annotated[float | None, tyro.conf.arg(aliases=["--strengths"])] = None,
    nats: float | None = None,
    choice: tyro.conf.OmitArgPrefixes[Choice] = CHOICE,
    seed: int = 0,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    device: str = "auto",
    threads: int | None = None,
) -> None:
    """Write a plain Hugging Face folder that is steered at every position without Hormesis.

    Args:
        checkpoint: A folder, a name in checkpoints/, or "org/name" on the Hugging Face hub.
        out: The folder to write; it must not be there yet.
        sigmas: Strength in the method's own unit (of iti: standard deviations along each direction).
        nats: The strength that costs so many nats per token on ordinary prose instead.
        choice: What is changed.
        seed: Of random directions.
        dtype: Number format of the folder's weights.
        device: auto, cpu, cuda or mps.
        threads: CPU threads.
    """
    plan = replace(choice(seed), positions="all")
    if (sigmas is None) == (nats is None):
        raise ValueError("Say how strongly, either way: --sigmas 8, or --nats 0.1.")
    check_machine(device, dtype, threads)
    check_free(out)
    check_plan(plan)  # before a fit that may take minutes
    progress(f"Opening {checkpoint}")
    lens = open_lens(checkpoint, device, "float32", threads)
    steering = fit_plan(plan, lens, on_progress=fitting)
    strength = bought(lens, steering, [nats or 0.0], tries)[0] if sigmas is None else sigmas
    baked = bake_doses(lens, steering.at(strength), out, dtype, on_stage=progress)
    progress()
    print(f"{plan} at {strength:g}: {baked.folder}")


def write(lens: Lens, rows: Sequence[Row], sampling: Sampling, as_json: bool, hide: Callable[[str], str]) -> None:
    """Print what is written, some rows at a time; Ctrl-C ends it once what there is has been printed."""
    strongest: Receipt | None = None
    interrupted = False
    for first in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[first : first + ROWS_AT_ONCE]
        progress(f"Texts {first + 1:,} to {first + len(some):,} of {len(rows):,}")
        steps = stream(lens, some, sampling)
        growing = live(steps, some, hide) if sys.stdout.isatty() and not as_json else steps
        last, interrupted = until_interrupted(growing)
        progress()
        if last is not None:
            print(json_lines(some, last, sampling) if as_json else page(some, last, hide), flush=True)
            strongest = max([*last.receipts, *([strongest] if strongest else [])], key=most)
        if interrupted:
            break
    if strongest and not as_json:
        print(strongest)
    if interrupted:
        raise KeyboardInterrupt


def most(receipt: Receipt) -> float:
    """The largest strength of a row."""
    return max((abs(strength) for _, strength in receipt.doses), default=0.0)


def until_interrupted(steps: Iterator[Step]) -> tuple[Step | None, bool]:
    """The last step, and whether Ctrl-C made it the last."""
    last = None
    try:
        for last in steps:  # noqa: B007
            pass
    except KeyboardInterrupt:
        return last, True
    return last, False


def live(steps: Iterator[Step], rows: Sequence[Row], hide: Callable[[str], str]) -> Iterator[Step]:
    """Show the texts growing in a terminal, as many as fit; the whole page is printed after."""
    from rich.live import Live
    from rich.text import Text

    progress()
    with Live(refresh_per_second=16, transient=True) as screen:
        for step in steps:
            screen.update(Text(page(rows, step, hide)))
            yield step


def fitting(done: int, total: int) -> None:
    progress(f"Fitting, {done:,} of {total:,}")


def tries(strength: float, kl: float) -> None:
    progress(f"At strength {strength:.4g}: {kl:.4g} nats per token")


COMMANDS = {
    "generate": Command(
        generate, "The texts above are whole or end where they were stopped; the same command writes all of them again."
    ),
    "calibrate": Command(
        calibrate, "The strengths above were found; give the same command with those --nats that are missing."
    ),
    "fit": Command(fit, "No fit was kept; the same command begins it again."),
    "bake": Command(bake, "No folder was written; the same command begins it again."),
}


def main() -> None:
    """What `python -m steering` runs."""
    run_command(COMMANDS, "python -m steering", config=(tyro.conf.FlagCreatePairsOff,))


if __name__ == "__main__":
    main()
