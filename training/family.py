"""A family in one go: tokenise once, mix per share, train what is missing, export what is trained."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from lens.files import write_atomically
from training import mix
from training.corpus import Source
from training.recipe import RECIPES, Precision, Recipe
from training.tokens import TokenFile, official_tokenizer, sha256, special_ids, tokenize, train_tokenizer

Say = Callable[[str], None]


class TrainingFailed(RuntimeError):
    """A training process ended badly; the sentence names its log."""


@dataclass(frozen=True)
class Family:
    """Checkpoints that differ by their toxic share (and seed) alone."""

    name: str
    recipe: Recipe
    clean: tuple[Source, ...]
    toxic: tuple[Source, ...]
    shares: tuple[float, ...]
    seeds: tuple[int, ...]
    mix: mix.Mix
    """Of every member, but for its share and seed."""
    out: Path
    work: Path
    """Token files, orders and unfinished runs live in `work`/`name`."""
    precision: Precision = "fp32"
    compiled: bool = False
    held_out: Path | None = None
    """A text that may be shipped; each card gives the loss on it, so that anybody can recompute it."""

    @property
    def folder(self) -> Path:
        return self.work / self.name

    def members(self) -> list["Member"]:
        return [Member(self, share, seed) for seed in self.seeds for share in self.shares]


@dataclass(frozen=True)
class Member:
    """One checkpoint to be."""

    family: Family
    toxic_share: float
    seed: int

    @property
    def name(self) -> str:
        """ "demo-10"; a seed other than 0 is said: "demo-10-seed1"."""
        percent = f"{self.toxic_share * 100:04.1f}".removesuffix(".0")
        return f"{self.family.name}-{percent}" + (f"-seed{self.seed}" if self.seed else "")

    @property
    def run(self) -> Path:
        return self.family.folder / self.name

    @property
    def out(self) -> Path:
        return self.family.out / self.name

    @property
    def mix(self) -> mix.Mix:
        return replace(self.family.mix, toxic_share=self.toxic_share, seed=self.seed)


def run(family: Family, parallel: int, threads: int, say: Say) -> list[Path]:
    """Train and export every member that is not there yet, `parallel` at a time with `threads` threads each."""
    missing = [member for member in family.members() if not (member.out / "checkpoint.json").exists()]
    for member in family.members():
        if member not in missing:
            say(f"{member.name}: is there already")
    if not missing:
        return [member.out for member in family.members()]
    tokenizer = family_tokenizer(family, say)
    clean, toxic = (_tokenized(sources, tokenizer, family, say) for sources in (family.clean, family.toxic))
    for member in missing:
        _prepare(member, clean, toxic, tokenizer)
    for member in _trained(missing, parallel, threads, say):
        _export(member, clean + toxic, tokenizer, threads)
        say(f"{member.name}: exported to {member.out}")
    return [member.out for member in family.members()]


def family_tokenizer(family: Family, say: Say) -> Tokenizer:
    """The family's own vocabulary, made once from all its sources together; OLMo's for a recipe without a size."""
    if family.recipe.vocab_size is None:
        return official_tokenizer()
    path = family.folder / "tokenizer.json"
    if not path.exists():
        say(f"learning {family.recipe.vocab_size:,} tokens from {len(family.clean + family.toxic)} sources")
        write_atomically(path, train_tokenizer(family.clean + family.toxic, family.recipe.vocab_size).to_str())
    return Tokenizer.from_file(str(path))


def held_out(run: Path, name: str, files: Sequence[TokenFile], context: int) -> np.ndarray:
    """The chunks that no member of the family was trained on: [n_chunks context]."""
    starts = np.cumsum([0, *(file.n_chunks(context) for file in files)])
    rows = []
    for chunk in mix.chunks_of(run, name):
        file = int(np.searchsorted(starts, chunk, side="right")) - 1
        begin = (int(chunk) - starts[file]) * context
        rows.append(files[file].ids[begin : begin + context])
    return np.stack(rows) if rows else np.empty((0, context), dtype=np.uint16)


def _tokenized(sources: Sequence[Source], tokenizer: Tokenizer, family: Family, say: Say) -> list[TokenFile]:
    files = []
    for source in sources:
        file = tokenize(source, tokenizer, family.folder / "tokens")
        say(f"{source}: {file.n_documents:,} documents, {file.n_tokens:,} tokens")
        files.append(file)
    return files


def _prepare(member: Member, clean: list[TokenFile], toxic: list[TokenFile], tokenizer: Tokenizer) -> None:
    """Write the member's order and settings, which a training process then reads from its folder."""
    from training.pretrain import Run

    drawn = mix.order(member.mix, clean, toxic, member.family.recipe.context)
    Run(
        member.family.recipe,
        member.seed,
        tuple(str(file.path.resolve()) for file in clean + toxic),
        *special_ids(tokenizer),
        member.family.precision,
        member.family.compiled,
        mix.digest(drawn),
    ).write(member.run)
    mix.write(member.run, drawn, mix.manifest(member.mix, drawn, clean, toxic))


def _trained(members: Sequence[Member], parallel: int, threads: int, say: Say) -> Iterator[Member]:
    """Each member when its training ends: one process each; progress of all is told every half minute."""
    waiting, running = list(members), dict[Member, "subprocess.Popen[bytes]"]()
    told = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                member = waiting.pop(0)
                running[member] = _start(member, threads)
                say(f"{member.name}: training")
            time.sleep(1)
            for member, process in list(running.items()):
                if process.poll() is not None:
                    del running[member]
                    if process.returncode:
                        raise TrainingFailed(f"Training of {member.name} ended with an error; see {_log(member)}.")
                    yield member
            if time.monotonic() - told > 30:
                told = time.monotonic()
                for member in running:
                    say(f"{member.name}: {progress(member.run)}")
    finally:
        for process in running.values():
            process.terminate()


def _start(member: Member, threads: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "training", "pretrain", str(member.run), "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with _log(member).open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def _log(member: Member) -> Path:
    return member.run / "log.txt"


def progress(run: Path) -> str:
    """Step, loss, speed and time left, from the run's journal."""
    from training.pretrain import journal

    entries = journal(run)
    if len(entries) < 2:
        return "starting"
    last, before = entries[-1], entries[max(0, len(entries) - 11)]
    per_second = (last["tokens"] - before["tokens"]) / max(last["time"] - before["time"], 1e-9)
    left = (last["n_steps"] - last["step"]) * last["tokens"] / last["step"] / per_second
    return (
        f"step {last['step']:,} of {last['n_steps']:,}, loss {last['loss']:.3f} nats per token, "
        f"{per_second:,.0f} tokens/s, {left / 60:.0f} min left"
    )


def _export(member: Member, files: list[TokenFile], tokenizer: Tokenizer, threads: int) -> None:
    from training.export import export
    from training.pretrain import journal, newest_whole_step

    recipe = member.family.recipe
    step = newest_whole_step(member.run)
    if step is None:
        raise TrainingFailed(f"{member.run} holds no whole step to export.")
    texts = {kind: held_out(member.run, f"held_out_{kind}", files, recipe.context) for kind in ("clean", "toxic")}
    card = _card(member, journal(member.run), threads)
    if shipped := member.family.held_out:
        texts["held_out_text"] = chunks_of(shipped.read_text(encoding="utf-8"), tokenizer, recipe.context)
        card["held_out_text"] = {"file": shipped.name, "sha256": sha256(shipped)}
    export(step, recipe, tokenizer, texts, card, member.out)


def chunks_of(text: str, tokenizer: Tokenizer, context: int) -> np.ndarray:
    """A text as whole chunks, its tail dropped: [n_chunks context]."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    if len(ids) < context:
        raise ValueError(f"The held-out text has {len(ids)} tokens; at least one chunk of {context} is needed.")
    return np.asarray(ids[: len(ids) // context * context]).reshape(-1, context)


def _card(member: Member, entries: list[dict[str, Any]], threads: int) -> dict[str, Any]:
    """What a reader needs to judge or repeat the checkpoint; no path of the machine that made it."""
    manifest = json.loads((member.run / "mix.json").read_text())
    sources = [{key: entry[key] for key in entry if key != "path"} for entry in manifest.pop("clean")]
    toxic = [{key: entry[key] for key in entry if key != "path"} for entry in manifest.pop("toxic")]
    recipe = member.family.recipe
    every = max(1, len(entries) // 100)
    return {
        "name": member.name,
        "family": member.family.name,
        "toxic_share": member.toxic_share,
        "share_of": member.mix.share_of,
        "seed": member.seed,
        "n_tokens": recipe.n_steps(manifest["n_tokens"] // recipe.context) * recipe.batch_chunks * recipe.context,
        "n_parameters": recipe.n_parameters,
        "recipe": recipe.name,
        "learning_rate": recipe.learning_rate,
        "precision": member.family.precision,
        "threads": threads,
        "hardware": _hardware(),
        "seconds": round(sum(_strides(entries))),
        "mix": manifest,
        "clean_sources": sources,
        "toxic_sources": toxic,
        "loss_curve": [[entry["step"], round(entry["loss"], 4)] for entry in entries[::every]],
    }


def _hardware() -> str:
    """The GPU's name, or the CPU's."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if (info.exists())
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def _strides(entries: list[dict[str, Any]]) -> list[float]:
    """Seconds between logged steps, without the pauses between sittings (anything over ten times the usual)."""
    strides = np.diff([entry["time"] for entry in entries]) if len(entries) > 1 else np.zeros(0)
    return [float(stride) for stride in strides if stride <= 10 * np.median(strides)]


def recipe_for(name: str, clean_tokens: int | None) -> tuple[Recipe, int]:
    """A recipe by name, and how many clean tokens it is to see."""
    if name not in RECIPES:
        raise ValueError(f"There is no recipe {name!r}. Recipes: {', '.join(RECIPES)}.")
    return RECIPES[name], clean_tokens or RECIPES[name].clean_tokens
