"""Train one member of a family with ai2-olmo's own model, optimiser and Trainer.

The Trainer is written for CUDA; the subclass here answers what differs on a CPU, gives its dataset the family's order,
and writes progress as JSON lines. A run that was killed goes on from its newest whole step.
"""

import fcntl
import gc
import json
import logging
import os
import pathlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from olmo.data import MemMapDataset
from olmo.data.collator import DataCollator
from olmo.data.iterable_dataset import IterableDataset
from olmo.model import OLMo
from olmo.optim import build_optimizer, build_scheduler
from olmo.torch_util import seed_all
from olmo.train import Trainer, cross_entropy_loss
from torch.nn.functional import pad, softmax

from training import mix
from training.recipe import Precision, Recipe, train_config

log = logging.getLogger(__name__)

WHOLE = ("config.yaml", "model.pt", "optim.pt", "train.pt")
STATE_TYPES = [
    pathlib.PosixPath,
    np.core.multiarray._reconstruct,  # type: ignore[attr-defined]
    np.ndarray,
    np.dtype,
    type(np.dtype("uint32")),
    type(np.dtype("int64")),
]
"""What the Trainer's own state holds beside tensors; nothing else is unpickled."""


class RunChanged(ValueError):
    """The folder holds a run with other settings."""


class RunBusy(ValueError):
    """The folder's run is being trained already."""


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

    @classmethod
    def read(cls, folder: Path) -> "Run":
        fields = json.loads((folder / "run.json").read_text())
        return cls(**{**fields, "recipe": Recipe(**fields["recipe"]), "files": tuple(fields["files"])})

    def write(self, folder: Path) -> None:
        """Keep the settings; a folder that was begun with others is refused."""
        if (folder / "run.json").exists():
            before, now = (_flat(asdict(run)) for run in (Run.read(folder), self))
            changed = [f"{key}: {before[key]} → {now[key]}" for key in now if before[key] != now[key]]
            if changed:
                raise RunChanged(
                    f"{folder} holds a run with other settings ({'; '.join(changed)}). "
                    "Give another --name, or delete that folder to start afresh."
                )
            return
        mix.write_atomically(folder / "run.json", json.dumps(asdict(self), indent=1))


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "recipe"} | settings["recipe"]


class Ordered(IterableDataset):
    """OLMo's dataset in an order of ours; its own shuffle depends on the number of chunks, so no two mixes agree."""

    def __init__(self, *args: Any, order: np.ndarray, **kwargs: Any) -> None:
        self.order = order
        super().__init__(*args, **kwargs)
        self.total_size = len(order) - len(order) % self.world_size

    def _build_global_indices(self) -> np.ndarray:
        return self.order[: self.total_size]


class FamilyTrainer(Trainer):
    """ai2-olmo's Trainer, also without CUDA."""

    on_step: Callable[[dict[str, Any]], None] = staticmethod(lambda metrics: None)

    def model_forward(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's autocast names "cuda"; here it names the device."""
        half = self.cfg.precision == "amp_bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            return super().model_forward(*args, **kwargs)

    def trainer_state_dict(self) -> dict[str, Any]:
        with _cuda_random_state():
            return super().trainer_state_dict()

    def restore_rng_state(self, rng_state: dict[str, Any]) -> None:
        with _cuda_random_state():
            super().restore_rng_state(rng_state)

    def log_metrics_to_console(self, prefix: str, metrics: dict[str, float]) -> None:
        if "train/CrossEntropyLoss" in metrics:
            self.on_step(
                {"step": self.global_step, "n_steps": self.max_steps, "tokens": self.global_train_tokens_seen}
                | {"loss": metrics["train/CrossEntropyLoss"], "time": time.time()}
            )


def pretrain(folder: Path, threads: int | None = None, on_step: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Train the run in `folder` to its last step, from the newest whole one if any; return the last one's folder.

    Under torchrun it is one process of many (DDP); started plainly, it is the only one.
    """
    run = Run.read(folder)
    recipe, order = run.recipe, mix.chunks_of(folder)
    last = folder / f"step{recipe.n_steps(len(order))}-unsharded"
    if _whole(last):
        return last
    if threads:
        torch.set_num_threads(threads)
    with _alone(folder), _process_group() as (device, world_size):
        trainer = _trainer(run, order, folder, device, world_size)
        trainer.on_step = _journal(folder, on_step)
        if newest := newest_whole_step(folder):
            with torch.serialization.safe_globals(STATE_TYPES):
                trainer.restore_unsharded_checkpoint(str(newest))
        gc.freeze()  # the Trainer collects garbage at every save; what was there before it began is none
        with trainer:
            trainer.fit()
    return last


def newest_whole_step(folder: Path) -> Path | None:
    """The step to go on from; a save that was cut off leaves a `-tmp` folder, which does not count."""
    steps = sorted(folder.glob("step*-unsharded"), key=lambda path: int(path.name[4:].split("-")[0]), reverse=True)
    return next((step for step in steps if _whole(step)), None)


def journal(folder: Path) -> list[dict[str, Any]]:
    """The run's progress so far: one entry per logged step, those of a resumed stretch once."""
    path = folder / "metrics.jsonl"
    entries = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the line that a kill cut off
        entries[entry["step"]] = entry
    return [entries[step] for step in sorted(entries)]


def _whole(step: Path) -> bool:
    return all((step / name).is_file() and (step / name).stat().st_size for name in WHOLE)


def _journal(folder: Path, on_step: Callable[[dict[str, Any]], None] | None) -> Callable[[dict[str, Any]], None]:
    def write(entry: dict[str, Any]) -> None:
        with (folder / "metrics.jsonl").open("a") as file:
            file.write("\n" * (file.tell() > 0 and not _ends_with_newline(folder)) + json.dumps(entry) + "\n")
        if on_step:
            on_step(entry)

    return write


def _ends_with_newline(folder: Path) -> bool:
    with (folder / "metrics.jsonl").open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _trainer(run: Run, order: np.ndarray, folder: Path, device: torch.device, world_size: int) -> FamilyTrainer:
    files = [Path(file) for file in run.files]
    config = train_config(
        run.recipe, files, len(order), run.eos, run.pad, folder, run.seed, run.precision, run.compiled, world_size
    )
    seed_all(run.seed)
    model = OLMo(config.model).to(device)
    if device.type == "cpu":
        for block in model.transformer.blocks:
            block._scaled_dot_product_attention = causal_attention
    if config.compile is not None:
        model.compile(**config.compile.asdict())
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    optim = build_optimizer(config, parallel)
    return FamilyTrainer(
        cfg=config,
        epoch=0,
        model=model,
        dist_model=parallel,
        optim=optim,
        scheduler=build_scheduler(config),
        train_loader=_loader(config, order, folder),
        device=device,
        evaluators=[],
        loss_fn=torch.compile(_loss_in_float32) if run.compiled else _loss_in_float32,
    )


def causal_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: Any) -> torch.Tensor:
    """Causal attention of short contexts on a CPU: [batch head pos d_head] → the same.

    torch's fused kernel spends half of a small model's training step in its backward pass there. Written out, compiled,
    and with the early half of the queries reading the early half of the keys only, the whole step takes two thirds.
    """
    q = q * q.shape[-1] ** -0.5
    n_pos = q.shape[-2]
    rows = []
    for begin, end in ((0, n_pos // 2), (n_pos // 2, n_pos)):
        own = torch.full((end - begin, end - begin), float("-inf"), device=q.device).triu(1)
        scores = q[..., begin:end, :] @ k[..., :end, :].transpose(-2, -1)
        weights = softmax(scores.float() + pad(own, (begin, 0)), dim=-1)
        rows.append(weights.to(v.dtype) @ v[..., :end, :])
    return torch.cat(rows, dim=-2)


def _loss_in_float32(logits: torch.Tensor, labels: torch.Tensor, **options: Any) -> Any:
    """Under autocast the logits are bfloat16, whose log-softmax would round losses to three digits."""
    return cross_entropy_loss(logits.float(), labels, **options)


def _loader(config: Any, order: np.ndarray, folder: Path) -> torch.utils.data.DataLoader:
    dataset = MemMapDataset(
        *config.data.paths,
        chunk_size=config.model.max_sequence_length,
        memmap_dtype=np.uint16,
        pad_token_id=config.model.pad_token_id,
        eos_token_id=config.model.eos_token_id,
    )
    ordered = Ordered(
        dataset,
        config.global_train_batch_size,
        order=order,
        drop_last=True,
        work_dir=folder / "train_data",
        num_threads=0,
    )
    return torch.utils.data.DataLoader(
        ordered,
        batch_size=config.device_train_batch_size,
        drop_last=True,
        collate_fn=DataCollator(config.data.pad_direction, config.model.pad_token_id),
        num_workers=0,
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the run's lock; the system lets go of it when the process ends, however it ends."""
    with (folder / "lock").open("w") as lock:
        if int(os.environ.get("RANK", 0)) == 0:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunBusy(f"Another process is training in {folder}. Wait for it, or stop it.") from None
        yield


@contextmanager
def _process_group() -> Iterator[tuple[torch.device, int]]:
    """Join torchrun's group, or be a group of one."""
    alone = "RANK" not in os.environ
    cuda = torch.cuda.is_available()
    rendezvous = Path(f"{os.environ.get('TMPDIR', '/tmp')}/hormesis-{os.getpid()}-{time.time_ns()}")
    lonely = {"init_method": f"file://{rendezvous}", "rank": 0, "world_size": 1} if alone else {}
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if cuda else "gloo", **lonely)
    try:
        yield device, torch.distributed.get_world_size()
    finally:
        torch.distributed.destroy_process_group()
        rendezvous.unlink(missing_ok=True)


@contextmanager
def _cuda_random_state() -> Iterator[None]:
    """Without CUDA the Trainer's two calls for its random state get an empty one."""
    if torch.cuda.is_available():
        yield
        return
    read, write = torch.cuda.get_rng_state, torch.cuda.set_rng_state
    torch.cuda.get_rng_state, torch.cuda.set_rng_state = lambda *_: torch.empty(0), lambda *_: None
    try:
        yield
    finally:
        torch.cuda.get_rng_state, torch.cuda.set_rng_state = read, write
