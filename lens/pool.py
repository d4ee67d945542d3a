"""The open lenses of a process: a few at a time, each used by one caller at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition
from typing import TypeAlias

import psutil
import torch

from lens.blocks import has_twice
from lens.checkpoint import Checkpoint
from lens.fingerprint import ModelState
from lens.model import Lens
from lens.opening import open_lens, resolve_device, resolve_dtype

Key: TypeAlias = ModelState
"""Files of the model with size and time of change: new weights, config or tokenizer are another lens."""
ROOM = 1.2
"""Memory a model takes while it works, as a multiple of its weights, beside the matrices that a small one has twice."""


class NotEnoughMemory(ValueError):
    """A checkpoint whose weights do not fit into the memory that is free."""


class LensPool:
    """At most `limit` open lenses; the one unused for longest is closed to make room."""

    def __init__(
        self, limit: int = 2, device: str = "auto", dtype: str | None = None, threads: int | None = None
    ) -> None:
        self.limit, self.device, self.dtype, self.threads = limit, device, dtype, threads
        self._open: dict[Key, Lens] = {}  # least recently used first
        self._busy: set[Key] = set()
        self._changed = Condition()

    @contextmanager
    def lens(self, checkpoint: Checkpoint) -> Iterator[Lens]:
        """The checkpoint's lens, for this caller alone until the `with` ends; opened if need be."""
        with self.lenses([checkpoint]) as (lens,):
            yield lens

    @contextmanager
    def lenses(self, checkpoints: Sequence[Checkpoint]) -> Iterator[tuple[Lens, ...]]:
        """Several at once, in the order asked for; the same checkpoint twice is one lens twice.

        All are taken in one step, so that two callers cannot each hold what the other waits for. The `with` may
        end in another thread than it began in, as happens to a generator served by Gradio.
        """
        keys = [checkpoint.state for checkpoint in checkpoints]
        wanted = dict(zip(keys, checkpoints, strict=True))
        if len(wanted) > self.limit:
            raise ValueError(f"{len(wanted)} checkpoints at once, but at most {self.limit} may be open together.")
        with self._changed:
            self._changed.wait_for(lambda: self._can_take(set(wanted)))
            self._busy |= set(wanted)
        try:
            opened = {key: self._opened(key, checkpoint) for key, checkpoint in wanted.items()}
            yield tuple(opened[key] for key in keys)
        finally:
            with self._changed:
                self._busy -= set(wanted)
                self._changed.notify_all()

    def _can_take(self, keys: set[Key]) -> bool:
        return not keys & self._busy and len(keys | self._busy) <= self.limit

    def _opened(self, key: Key, checkpoint: Checkpoint) -> Lens:
        """The open lens of a key that this caller holds."""
        with self._changed:
            if key in self._open:
                self._open[key] = self._open.pop(key)  # now the most recently used
                return self._open[key]
            while len(self._open.keys() | self._busy) > self.limit:
                self._close_oldest()
            self._make_room(checkpoint)
        lens = open_lens(checkpoint, self.device, self.dtype, self.threads)
        with self._changed:
            self._open[key] = lens
        return lens

    def _make_room(self, checkpoint: Checkpoint) -> None:
        """Close what nobody uses until the weights fit into free memory; refuse if they never do."""
        device, dtype = resolve_device(self.device), resolve_dtype(self.dtype, checkpoint)
        n_parameters = checkpoint.n_parameters
        needed = (ROOM + has_twice(n_parameters, device, dtype)) * n_parameters * dtype.itemsize
        while needed > (free := free_bytes(device)):
            if not self._close_oldest():
                raise NotEnoughMemory(
                    f"{checkpoint.name} needs {needed / 1e9:.1f} GB as {str(dtype).removeprefix('torch.')}, and "
                    f"{free / 1e9:.1f} GB are free on {device}. Close other programs, or start with --dtype bfloat16."
                )

    def _close_oldest(self) -> bool:
        """Close the lens unused for longest, if there is one that nobody holds."""
        idle = next((key for key in self._open if key not in self._busy), None)
        if idle is None:
            return False
        del self._open[idle]
        gc.collect()  # a bridge refers to itself in circles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True


def free_bytes(device: torch.device) -> float:
    """Memory that a model could still take on a device, inside a container's own limit."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(psutil.virtual_memory().available, _container_free())


def _container_free(group: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes left under a Linux container's limit (cgroup 2); infinity where there is none."""
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return float("inf")
    return float("inf") if limit == "max" else int(limit) - used + int(stat.get("inactive_file", 0))
