"""Train one member of a family with ai2-olmo's own model, optimiser and Trainer, on one process or on many."""

import datetime
import fcntl
import gc
import hashlib
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training import mix
from training.build import trainer_of
from training.circumstances import circumstances
from training.conduct import Conduct
from training.run import Run, RunChanged, UnsafeStep, check_step, is_whole, newest_whole_step, note, step_folder, steps
from training.tokens import sha256
from training.trainer import FamilyTrainer, SaveFailed

STATE_TYPES = [
    Path().__class__,
    np.core.multiarray._reconstruct,  # type: ignore[attr-defined]
    np.ndarray,
    np.dtype,
    type(np.dtype("uint32")),
    type(np.dtype("int64")),
]
"""What the Trainer's own state holds beside tensors; nothing else is unpickled."""


class RunBusy(ValueError):
    """The folder's run is being trained already."""


class Stopped(RuntimeError):
    """Training cannot go on; the sentence says why and what is left."""


def pretrain(folder: Path, conduct: Conduct) -> Path:
    """Train the run in `folder` to its last step, from the newest whole one if any; return the last one's folder.

    Under torchrun it is one process of many; started plainly, it is the only one. How many there are does not change
    which chunks a step sees, so a run may go on with another number.
    """
    folder = folder.resolve()  # the Trainer remembers its saves by their paths
    run, order = Run.read(folder), mix.chunks_of(folder)
    last = step_folder(folder, run.recipe.n_steps(len(order)))
    if is_whole(last):
        return last
    if conduct.threads:
        torch.set_num_threads(conduct.threads)
    with _alone(folder), process_group(conduct) as device, _plainly(folder):
        _check_data(run, order, folder)
        trainer = trainer_of(run, order, folder, device, conduct)
        check_space(folder, run.recipe.n_parameters, conduct.keep_last)
        if newest := newest_whole_step(folder):
            _restore(trainer, newest)
            for group in trainer.optim.param_groups:  # the save may be of the other strategy
                group["sharded"] = conduct.strategy == "fsdp"
        if torch.distributed.get_rank() == 0:
            sitting = circumstances(conduct, torch.distributed.get_world_size())
            note(folder, {"step": trainer.global_step, "sitting": sitting, "time": time.time()})
        gc.freeze()  # the Trainer collects garbage at every save; what was there before it began is none
        with trainer, _weights_and_biases(run, folder, conduct):  # its end goes before the Trainer's own, outdated call
            trainer.fit()
        if trainer.global_step < trainer.max_steps:
            raise Stopped(f"The run was cancelled at step {trainer.global_step}. {_left(folder)}")
    return last


def _restore(trainer: FamilyTrainer, step: Path) -> None:
    """Load weights, moments and the Trainer's own state; nothing but plain values is unpickled."""
    check_step(step)
    try:
        with torch.serialization.safe_globals(STATE_TYPES):
            trainer.restore_unsharded_checkpoint(str(step))
    except torch.cuda.OutOfMemoryError:
        raise
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError, RuntimeError) as error:
        raise UnsafeStep(
            f"{step} cannot be read ({_first_line(error)[:200]}). Remove this folder to go on from the step before."
        ) from error


def _check_data(run: Run, order: np.ndarray, folder: Path) -> None:
    """Refuse text that is not what the run was prepared with."""
    if hashlib.sha256(order.tobytes()).hexdigest() != run.order_sha256:
        raise RunChanged(f"{folder}/chunks.u4 is not the order this run was prepared with. Prepare it again.")
    if torch.distributed.get_rank() != 0:
        return
    for file, expected in zip(run.files, run.data_sha256, strict=False):
        if not Path(file).is_file() or sha256(Path(file)) != expected:
            raise RunChanged(
                f"{file} is gone or holds other tokens than this run was prepared with. "
                "Give the command that prepared it again, or another --name."
            )


def check_space(folder: Path, n_parameters: int, keep_last: int) -> None:
    """A save holds weights and AdamW's two moments in float32; one more is written before the oldest goes."""
    whole = [step for step in steps(folder).values() if is_whole(step)][-keep_last:]
    present = sum(file.stat().st_size for step in whole for file in step.glob("*.pt"))
    needed = max(0, (keep_last + 1) * 12 * n_parameters - present)
    if (free := shutil.disk_usage(folder).free) < needed:
        raise Stopped(
            f"{folder} needs {needed / 1e9:.1f} GB for its saves and the disk has {free / 1e9:.1f} GB. "
            "Make room, give another --work folder, or --keep-last 1."
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
def process_group(conduct: Conduct) -> Iterator[torch.device]:
    """Join torchrun's group, or be a group of one."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if "RANK" in os.environ:
        os.environ.setdefault("FS_LOCAL_RANK", os.environ["RANK"])  # the run's folder is on a disk that all share
    with tempfile.TemporaryDirectory() as folder:
        alone: dict[str, Any] = {"init_method": f"file://{folder}/meet", "rank": 0, "world_size": 1}
        try:
            torch.distributed.init_process_group(
                "nccl" if cuda else "gloo",
                timeout=datetime.timedelta(seconds=conduct.patience_s),
                **({} if "RANK" in os.environ else alone),
            )
        except (torch.distributed.DistError, RuntimeError) as error:
            raise Stopped(
                f"Only some of the {os.environ.get('WORLD_SIZE', 1)} processes came within {conduct.patience_s} s "
                f"({_first_line(error)}). Start the missing ones, then all of them again."
            ) from error
        try:
            yield device
        except BaseException:
            # NCCL would wait here for the other processes, which wait for this one; a single one that left its group
            # standing never ended (12 of 12 on an H200)
            if not cuda or torch.distributed.get_world_size() == 1:
                torch.distributed.destroy_process_group()
            raise
        torch.distributed.destroy_process_group()


@contextmanager
def _plainly(folder: Path) -> Iterator[None]:
    """Say what happened in a sentence, and what is left."""
    try:
        yield
    except SaveFailed as error:
        raise Stopped(f"{error}. {_left(folder)} Make room, then give the same command again.") from error
    except torch.cuda.OutOfMemoryError as error:
        raise Stopped(f"The GPU's memory is full. {_left(folder)} Give a smaller --microbatch.") from error
    except torch.distributed.DistError as error:
        raise Stopped(f"Another process was lost ({_first_line(error)}). {_left(folder)} Start all again.") from error
    except ValueError as error:
        if "nan loss" not in str(error):
            raise
        raise Stopped(
            f"The loss is not a number any more. {_left(folder)} A smaller --learning-rate under another --name helps."
        ) from error
    except RuntimeError as error:
        if "gloo" not in str(error) and "Connection" not in str(error):
            raise
        raise Stopped(f"Another process was lost ({_first_line(error)}). {_left(folder)} Start all again.") from error


def _left(folder: Path) -> str:
    newest = newest_whole_step(folder)
    return f"The last whole save is {newest}." if newest else "Nothing was saved yet."


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _weights_and_biases(run: Run, folder: Path, conduct: Conduct) -> Iterator[None]:
    """The Trainer logs to a run that is open; without a key it stays on disk, for `wandb sync`."""
    if conduct.wandb is None or torch.distributed.get_rank() != 0:
        yield
        return
    import wandb

    if not os.environ.get("WANDB_API_KEY"):
        os.environ.setdefault("WANDB_MODE", "offline")
    settings = wandb.Settings(init_timeout=30, silent=True)
    place: dict[str, Any] = {
        "project": conduct.wandb,
        "group": run.family,
        "name": run.name,
        "dir": folder,
        "settings": settings,
    }
    try:
        wandb.init(**place)
    except wandb.Error:
        wandb.init(**place, mode="offline")
    try:
        yield
    finally:
        wandb.finish()
