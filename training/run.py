"""A run's folder: the settings that decide its weights, its journal and its whole steps."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lens.files import write_atomically
from training.recipe import Precision, Recipe

WHOLE = ("config.yaml", "model.pt", "optim.pt", "train.pt")
SETTINGS, JOURNAL = "run.json", "metrics.jsonl"
STOPPED = "Stopped: "
"""What the last words of a training process begin with."""


class RunChanged(ValueError):
    """The folder holds a run with other settings or other data."""


class UnsafeStep(ValueError):
    """A saved step holds what training never writes, or cannot be read."""


@dataclass(frozen=True)
class Run:
    """Everything that decides a run's weights, kept in its folder as `run.json`."""

    recipe: Recipe
    seed: int
    files: tuple[str, ...]
    """Token files, clean first: the chunk numbers of `chunks.u4` count through them."""
    eos: int
    pad: int
    precision: Precision = "fp32"
    compiled: bool = False
    order_sha256: str = ""
    data_sha256: tuple[str, ...] = ()
    """Of each token file's ids, so that other text under the same name is noticed."""
    family: str = ""
    toxic_share: float = 0.0
    name: str = ""
    held_out_text: str | None = None
    """A text that may be shipped; the card gives the loss on it, so that anybody can recompute it."""

    @classmethod
    def read(cls, folder: Path) -> "Run":
        if not (folder / SETTINGS).is_file():
            raise RunChanged(
                f"{folder} holds no prepared run. Make one: python -m training run --prepare --clean FILE --toxic FILE"
            )
        fields = json.loads((folder / SETTINGS).read_text())
        lists = {name: tuple(fields.get(name, ())) for name in ("files", "data_sha256")}
        return cls(**{**fields, **lists, "recipe": Recipe(**fields["recipe"])})

    def write(self, folder: Path) -> None:
        """Keep the settings; a folder that was begun with others is refused."""
        if (folder / SETTINGS).exists():
            before, now = (_flat(asdict(run)) for run in (Run.read(folder), self))
            changed = [f"{key}: {before[key]} → {now[key]}" for key in now if before[key] != now[key]]
            if changed:
                raise RunChanged(
                    f"{folder} holds a run with other settings ({'; '.join(changed)}). "
                    "Give another --name, or delete that folder to start afresh."
                )
            return
        write_atomically(folder / SETTINGS, json.dumps(asdict(self), indent=1))


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """A run's settings and its recipe's side by side; both have a name."""
    recipe = dict(settings["recipe"])
    return settings | {"recipe": recipe.pop("name")} | recipe


def step_folder(folder: Path, step: int) -> Path:
    """Where ai2-olmo puts a step."""
    return folder / f"step{step}-unsharded"


def steps(folder: Path) -> dict[int, Path]:
    """Every step with whole weights, oldest first; one that was only kept for export has no optimiser any more."""
    named = {path: re.fullmatch(r"step(\d{1,15})-unsharded", path.name) for path in folder.glob("step*-unsharded")}
    found = {int(name[1]): path for path, name in named.items() if name}
    return {step: found[step] for step in sorted(found) if _has(found[step], WHOLE[:2])}


def newest_whole_step(folder: Path) -> Path | None:
    """The step to go on from; a save that was cut off leaves a `-tmp` folder, which does not count."""
    return next((path for path in reversed(steps(folder).values()) if is_whole(path)), None)


def is_whole(step: Path) -> bool:
    """Whether training can go on from a step."""
    return _has(step, WHOLE)


def check_step(step: Path) -> None:
    """Refuse a step with files that ai2-olmo would read instead of ours: it unpickles the keys of a .safetensors."""
    if strange := sorted(path.name for path in step.iterdir() if path.name not in WHOLE):
        raise UnsafeStep(
            f"{step} holds {', '.join(strange)[:100]}, which training does not write and which may run code when it is "
            f"read; expected {', '.join(WHOLE)} alone. Remove what you do not know, or the whole folder to go on from "
            "the step before."
        )


def _has(step: Path, names: Sequence[str]) -> bool:
    return all((step / name).is_file() and (step / name).stat().st_size for name in names)


def note(folder: Path, entry: dict[str, Any]) -> None:
    """Add a line to the journal; one that a kill cut off is ended first, so that it spoils no other."""
    with (folder / JOURNAL).open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(entry).encode() + b"\n")


def journal(folder: Path, kind: Literal["loss", "held_out", "sitting"] = "loss") -> list[dict[str, Any]]:
    """Entries with a training loss, with held-out losses, or of a sitting's begin; those of a repeated step once."""
    entries: dict[int, dict[str, Any]] = {}
    for entry in _lines(folder / JOURNAL):
        if "sitting" in entry:  # it went on from a save: what was noted behind that is done again
            entries = {step: entries[step] for step in entries if step <= entry["step"]}
        if kind in entry:
            entries[entry["step"]] = entry
    return [entries[step] for step in sorted(entries)]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except ValueError:
            continue  # the line that a kill cut off


def progress(folder: Path) -> str:
    """Step, loss, speed and time left, from the run's journal."""
    entries = journal(folder)
    if len(entries) < 2:
        return "starting"
    last, before = entries[-1], entries[max(0, len(entries) - 11)]
    per_second = (last["tokens"] - before["tokens"]) / max(last["time"] - before["time"], 1e-9)
    left = (last["n_steps"] - last["step"]) * last["tokens"] / last["step"] / per_second
    return (
        f"step {last['step']:,} of {last['n_steps']:,}, loss {last['loss']:.3f} nats per token, "
        f"{per_second:,.0f} tokens/s, {left / 60:.0f} min left"
    )


def seconds(entries: Sequence[dict[str, Any]]) -> int:
    """Training time between a journal's entries, without the pauses between sittings (over ten times the usual)."""
    strides = np.diff([entry["time"] for entry in entries]) if len(entries) > 1 else np.zeros(0)
    return round(float(strides[strides <= 10 * np.median(strides)].sum())) if len(strides) else 0
