"""Where we differ from ai2-olmo's Trainer: no CUDA needed, our order of data, held-out losses, flushed saves."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import olmo.checkpoint
import torch
from olmo.checkpoint import FullCheckpointer
from olmo.config import CheckpointType
from olmo.data.iterable_dataset import IterableDataset
from olmo.torch_util import get_global_rank
from olmo.train import Trainer
from torch.utils.data import DataLoader

from lens.files import flush_folder


class SaveFailed(RuntimeError):
    """A step could not be written; the steps before it are untouched."""


class Ordered(IterableDataset):
    """OLMo's dataset in an order of ours; its own shuffle depends on the number of chunks, so no two mixes agree.

    An order may be longer than its text, which it then goes through again. It is not kept in a file (`work_dir`): that
    is written before the order's own length is known.
    """

    def __init__(self, *args: Any, order: np.ndarray, **kwargs: Any) -> None:
        self.order = order
        super().__init__(*args, **kwargs)
        self.total_size = len(order) - len(order) % self.world_size

    def _build_global_indices(self) -> np.ndarray:
        return self.order[: self.total_size]


@dataclass
class FamilyTrainer(Trainer):
    """ai2-olmo's Trainer, also without CUDA, for one run of a family."""

    held_out: Mapping[str, DataLoader] = field(default_factory=dict)
    """By kind of text: the chunks that no run of the family is trained on."""
    note: Callable[[dict[str, Any]], None] = lambda entry: None
    """Takes a line for the run's journal."""
    keep_every: int | None = None
    """Steps whose weights stay when newer ones are there."""

    def model_forward(self, *args: Any, **kwargs: Any) -> Any:
        """The Trainer's autocast names "cuda"; here it names the device."""
        half = self.cfg.precision == "amp_bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            return super().model_forward(*args, **kwargs)

    def eval(self) -> dict[str, Any]:
        """Mean loss in nats per token on each kind of held-out text, without compiling the model a second time."""
        self.optim.zero_grad(set_to_none=True)
        self.dist_model.eval()
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            losses = {kind: self._mean_loss(chunks) for kind, chunks in self.held_out.items()}
        self.note({"step": self.global_step, "held_out": losses, "time": time.time()})
        return {f"eval/{kind}/CrossEntropyLoss": loss for kind, loss in losses.items()}

    def _mean_loss(self, chunks: DataLoader) -> float:
        """Every process takes all chunks: they are few, and so the number does not depend on the processes."""
        total, n_tokens = 0.0, 0
        for batch in chunks:
            ids = batch["input_ids"].to(self.device)
            loss, _, _ = self.model_forward({"input_ids": ids}, loss_reduction="sum")
            total, n_tokens = total + loss.item(), n_tokens + ids[:, 1:].numel()
        return total / n_tokens

    def log_metrics_to_console(self, prefix: str, metrics: dict[str, float]) -> None:
        if "train/CrossEntropyLoss" in metrics:
            self.note(
                {"step": self.global_step, "n_steps": self.max_steps, "tokens": self.global_train_tokens_seen}
                | {"loss": metrics["train/CrossEntropyLoss"], "time": time.time()}
                | {"learning_rate": metrics.get("optim/learning_rate_group0")}
            )

    def save_unsharded_checkpoint(self) -> Any:
        """The one kind of save: whole, so that any number of processes can go on from it."""
        lost = torch.tensor([not p.isfinite().all() for p in self.model.parameters()], device=self.device).any().int()
        torch.distributed.all_reduce(lost)
        if lost:  # an infinite gradient spoils weights one step before the loss
            raise ValueError("nan loss ahead")
        try:
            saved = self._save_checkpoint(Flushed(self.cfg), CheckpointType.unsharded)
        except (torch.distributed.DistError, torch.cuda.OutOfMemoryError):
            raise
        except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
            raise SaveFailed(f"Step {self.global_step} could not be saved: {_first_line(error)}") from error
        self.last_unsharded_checkpoint_step = self.global_step
        return saved

    def remove_unsharded_checkpoint(self, idx: int = 0) -> None:
        oldest = self.unsharded_checkpoints[idx]
        step = int(oldest.name[4:].split("-")[0])
        if not self.keep_every or step % self.keep_every:
            return super().remove_unsharded_checkpoint(idx)
        self.unsharded_checkpoints.pop(idx)
        if get_global_rank() == 0:
            for name in ("optim.pt", "train.pt"):  # two thirds of the bytes, and only of use for going on
                (oldest / name).unlink(missing_ok=True)

    def trainer_state_dict(self) -> dict[str, Any]:
        with _cuda_random_state():
            return super().trainer_state_dict()

    def restore_rng_state(self, rng_state: dict[str, Any]) -> None:
        if torch.cuda.is_available() and not rng_state["cuda"].numel():  # saved without CUDA
            rng_state = {**rng_state, "cuda": torch.cuda.get_rng_state()}
        with _cuda_random_state():
            super().restore_rng_state(rng_state)


class Flushed(FullCheckpointer):
    """A save that is on the disk before it gets its name; one that fails gives its space back."""

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """FSDP is asked to move what it gathers to the CPU; what is there already, it would free and then read."""
        gathered = {
            name: partial(_without_offload, getattr(olmo.checkpoint, name))
            for name in ("FullStateDictConfig", "FullOptimStateDictConfig")
        }
        with _replaced(olmo.checkpoint, {} if torch.cuda.is_available() else gathered):
            super().save_checkpoint(*args, **kwargs)

    @contextmanager
    def _temporary_wd(self, dir: Any) -> Iterator[Path]:
        with super()._temporary_wd(dir) as folder:
            try:
                yield folder
                if get_global_rank() == 0:
                    _flush(folder)
            except Exception:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        flush_folder(Path(dir).parent)


def _without_offload(settings: Any, rank0_only: bool, offload_to_cpu: bool) -> Any:
    return settings(rank0_only=rank0_only, offload_to_cpu=False)


def _flush(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    flush_folder(folder)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _cuda_random_state() -> AbstractContextManager[None]:
    """Without CUDA the Trainer's two calls for its random state get an empty one."""
    empty = {"get_rng_state": lambda *_: torch.empty(0), "set_rng_state": lambda *_: None}
    return _replaced(torch.cuda, {} if torch.cuda.is_available() else empty)


@contextmanager
def _replaced(module: Any, names: Mapping[str, Any]) -> Iterator[None]:
    """Inside the `with`, a module's names mean something else."""
    before = {name: getattr(module, name) for name in names}
    try:
        for name in names:
            setattr(module, name, names[name])
        yield
    finally:
        for name in names:
            setattr(module, name, before[name])
