"""The open lenses of a process: as many as memory allows, each used by one caller at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
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
SHARE = 0.5
"""Of the memory that is free or taken by lenses: so much of it they may keep while nobody uses them."""


class NotEnoughMemory(ValueError):
    """A checkpoint whose weights do not fit into the memory that is free."""


class LensPool:
    """Open lenses, each used by one caller at a time.

    All lenses together stay within SHARE of the memory by closing those that nobody uses, the one unused for longest
    first. Lenses in use may take whatever is free.
    """

    def __init__(self, device: str = "auto", dtype: str | None = None, threads: int | None = None) -> None:
        self.device, self.dtype, self.threads = device, dtype, threads
        self._open: dict[Key, Lens] = {}  # least recently used first
        self._busy: set[Key] = set()
        self._sizes: dict[Key, float] = {}
        """Bytes of each lens that is open or being opened."""
        self._fresh: set[Key] = set()
        """Lenses in their first use: their memory is not all taken yet, and would be given out a second time."""
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
        sizes = {key: self._size(checkpoint) for key, checkpoint in wanted.items()}
        with self._changed:
            self._changed.wait_for(lambda: self._take(wanted, sizes))
        try:
            opened = {key: self._opened(key, checkpoint) for key, checkpoint in wanted.items()}
            yield tuple(opened[key] for key in keys)
        finally:
            with self._changed:
                self._busy -= wanted.keys()
                self._fresh -= wanted.keys()
                for key in wanted.keys() - self._open.keys():  # it could not be opened
                    self._sizes.pop(key, None)
                self._changed.notify_all()

    def _take(self, wanted: Mapping[Key, Checkpoint], sizes: Mapping[Key, float]) -> bool:
        """Hold these lenses, with room for those to be opened; False: another caller has to end first."""
        if wanted.keys() & self._busy:
            return False
        new = {key: size for key, size in sizes.items() if key not in self._open}
        if new and not self._make_room(wanted, sum(new.values())):
            return False
        self._busy |= wanted.keys()
        self._fresh |= new.keys()
        self._sizes |= new
        return True

    def _opened(self, key: Key, checkpoint: Checkpoint) -> Lens:
        """The open lens of a key that this caller holds."""
        with self._changed:
            if key in self._open:
                self._open[key] = self._open.pop(key)  # now the most recently used
                return self._open[key]
        lens = open_lens(checkpoint, self.device, self.dtype, self.threads)
        with self._changed:
            self._open[key] = lens
        return lens

    def _make_room(self, wanted: Mapping[Key, Checkpoint], needed: float) -> bool:
        """Close idle lenses until so many bytes are there; False: lenses in use have to be given back first."""
        folders = {checkpoint.folder for checkpoint in wanted.values()}
        self._close([key for key in self._idle(wanted) if self._open[key].checkpoint.folder in folders])  # old weights
        most = self._free() + sum(size for key, size in self._sizes.items() if key not in wanted)
        if needed > most:  # though all others were closed
            raise self._refusal(wanted, needed, most)
        while not self._fits(needed) and (idle := self._idle(wanted)):
            self._close(idle[:1])
        if needed <= self._free():
            return True
        if not self._busy:  # less became free than was counted on, and nobody will free more
            raise self._refusal(wanted, needed, self._free())
        return False

    def _fits(self, needed: float) -> bool:
        """Whether all lenses then stay within their share of the memory."""
        held = sum(self._sizes.values())
        return needed <= self._free() and held + needed <= SHARE * (self._free() + held)

    def _free(self) -> float:
        """Bytes that no lens will take."""
        return free_bytes(resolve_device(self.device)) - sum(self._sizes[key] for key in self._fresh)

    def _size(self, checkpoint: Checkpoint) -> float:
        """Bytes that a lens takes while it works."""
        device, dtype = resolve_device(self.device), resolve_dtype(self.dtype, checkpoint)
        n_parameters = checkpoint.n_parameters
        return (ROOM + has_twice(n_parameters, device, dtype)) * n_parameters * dtype.itemsize

    def _refusal(self, wanted: Mapping[Key, Checkpoint], needed: float, free: float) -> NotEnoughMemory:
        names = [checkpoint.name for checkpoint in wanted.values()]
        dtypes = {str(resolve_dtype(self.dtype, checkpoint)).removeprefix("torch.") for checkpoint in wanted.values()}
        together = f"{' and '.join(names)} together need" if len(names) > 1 else f"{names[0]} needs"
        fewer = "choose fewer checkpoints, " if len(names) > 1 else ""
        return NotEnoughMemory(
            f"{together} {needed / 1e9:.1f} GB as {' and '.join(sorted(dtypes))}, and {free / 1e9:.1f} GB are free on "
            f"{resolve_device(self.device)}. Close other programs, {fewer}or start with --dtype bfloat16."
        )

    def _idle(self, wanted: Mapping[Key, Checkpoint]) -> list[Key]:
        """Lenses that nobody holds or is about to, the one unused for longest first."""
        return [key for key in self._open if key not in self._busy and key not in wanted]

    def _close(self, keys: Sequence[Key]) -> None:
        for key in keys:
            del self._open[key], self._sizes[key]
        if keys:
            gc.collect()  # a bridge refers to itself in circles
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


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
