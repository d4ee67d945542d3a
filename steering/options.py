"""What the words of the command mean: a plan, the machine, prompts and strengths, as values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from lens import Checkpoint, Lens, open_lens
from lens.line_reader import STDIN
from lens.opening import check_machine
from probes.direction import Kind
from steering.batch import Row, encoded
from steering.calibrate import Calibration
from steering.dose import Doses, Steering
from steering.edit import Where
from steering.methods.fitting import fit
from steering.methods.table import METHODS
from steering.plan import Plan
from steering.prompt_files import read_prompts, remark
from steering.sampling import Sampling


@dataclass(frozen=True)
class Choice:
    """A plan by its parts; what is not given is as in `--plan`, or as `Plan` has it."""

    plan: Path | None = None
    """A plan as a JSON file; the other options change it."""
    method: Annotated[str | None, tyro.conf.arg(help_behavior_hint="default: iti", metavar="|".join(METHODS))] = None
    """What is done to the model; `docs/method.md` says what each does."""
    probes: str | None = None
    """The probe set that ranks heads and layers, and whose texts the method is fitted to. Default: toxigen."""
    kind: Kind | None = None
    """mass-mean and probe-weight steer; random is a control. Default: mass-mean."""
    heads: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="N|band|L3H7 ...")] = None
    """So many of the best, all above the null band, or heads by name. Default: 30 of 256 or more, else 12 %."""
    layers: Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="LAYER ...")] = None
    """Layers of the residual stream. Default: the best-read one (caa), or all."""
    where: Where | None = None
    """Default: the method's own place."""
    sigma_from: str | None = None
    """The probe set whose texts one standard deviation is measured on (iti). Default: --probes."""
    gate: float | None = None
    """Act only where the place's own probe gives the positive class more than this probability."""
    positions: Literal["last", "all"] | None = None
    """last: from the last prompt token on. all: the whole prompt too. Default: last."""

    def __call__(self, seed: int = 0) -> Plan:
        """The plan; `seed` is that of random directions where no file gives one."""
        base = Plan(seed=seed)
        if self.plan is not None:
            text = text_of(self.plan)
            try:
                base = Plan.from_json(text)
            except ValueError as error:
                raise ValueError(f"{self.plan}: {error}") from error
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "plan"}
        changes = {name: value for name, value in given.items() if value is not None}
        if self.heads is not None:
            words = " ".join(self.heads)
            changes["heads"] = int(words) if words.isdecimal() else words
        return replace(base, **changes)


def planned(word: str, beside: Plan) -> tuple[Plan, float]:
    """What "caa@1" or "more.json@8" asks for, at a strength: a method on the first plan's probes, or a plan's file."""
    name, _, number = word.rpartition("@")
    try:
        strength = float(number)
    except ValueError:
        raise ValueError(
            f"--also takes plans with their strengths, such as caa@1 or plan.json@8; got {word!r}."
        ) from None
    plan = Choice(Path(name))() if name.endswith(".json") else Plan(name, beside.probes, seed=beside.seed)
    return plan, plan.checked(strength)


@dataclass(frozen=True)
class Machine:
    """What the model computes on."""

    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Default: float32 below 500 million parameters, else bfloat16."""
    threads: int | None = None
    """CPU threads."""

    def check(self) -> None:
        """Refuse what is not here, before anything slow begins."""
        check_machine(self.device, self.dtype, self.threads)

    def open(self, checkpoint: Checkpoint | str) -> Lens:
        return open_lens(checkpoint, self.device, self.dtype, self.threads)


def strengths_for(plan: Plan, sigmas: Sequence[float] | None, nats: Sequence[float] | None) -> Sequence[float]:
    """The strengths or the nats that were asked for, or the method's usual strengths."""
    if sigmas is not None and nats is not None:
        raise ValueError("Strengths are given by --sigmas or bought by --nats. Give one of the two.")
    asked = plan.rule.strengths if sigmas is None and nats is None else sigmas or nats
    if not asked:
        raise ValueError("There is nothing to write. Give at least one strength, such as --sigmas 0 8.")
    return asked


def bought(
    lens: Lens, steering: Steering, nats: Sequence[float], on_progress: Callable[[float, float], None] | None = None
) -> list[float]:
    """The strength for each number of nats per token; 0 is the plain model."""
    curve = Calibration(lens, steering, on_progress=on_progress)
    return [curve.spend(one).strength if one else 0.0 for one in nats]


def rows_for(lens: Lens, prompts: Sequence[str], n: int, doses: Sequence[Doses], sampling: Sampling) -> list[Row]:
    """Every prompt, so many times, with each of some doses; refused before anything is written."""
    if n < 1:
        raise ValueError(f"--n is a number of texts for each prompt and strength, from 1 up; got {n}.")
    for number, prompt in enumerate(prompts, start=1):
        for one in doses:
            try:
                encoded(lens, [Row(prompt, one).read], sampling)
            except ValueError as error:
                raise ValueError(f"Prompt {number} of {len(prompts)}: {error}") from error
    return [Row(prompt, one, sample) for prompt in prompts for sample in range(n) for one in doses]


def asked_in_words(lens: Lens) -> Doses:
    """The prompting baseline."""
    return fit(Plan("prompting"), lens).at(1)


def text_of(file: Path) -> str:
    """What a file holds, in UTF-8 and no other encoding."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a text in UTF-8: {error}. Save it as UTF-8.") from error


def prompts_from(source: str) -> list[str]:
    """The prompts of a file, or of standard input ("-")."""
    found = read_prompts(source)
    if found.n_stripped:
        print(f"{STDIN if source == '-' else source}: {remark(found.n_stripped)}", file=sys.stderr)
    return [prompt.text for prompt in found.prompts]
