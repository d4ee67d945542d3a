"""A step that a GPU records once and then replays: a token costs it one call from Python instead of some hundred."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

import torch
from torch import Tensor

REPLAYING = {"cuda"}
"""Kinds of device whose steps are repeated without change."""
LEAST_STEPS: float = 8
"""Steps still to come from which a recording, which costs as much as a few of them, pays."""
ALIGNED = 16
"""Positions that a cache's width is a multiple of: a mask of another width would be padded anew in every layer."""
ONE_AT_A_TIME = Lock()


def pays(device: torch.device, n_steps: int) -> bool:
    """Whether so many steps are worth a recording."""
    return device.type in REPLAYING and n_steps >= LEAST_STEPS


class Repeated:
    """Work that does the same to the same tensors each time; only the numbers in them change.

    On CUDA the first time is done plainly, so that all libraries are ready, the second time is recorded, and from then
    on it is replayed. Elsewhere it is done plainly every time.
    """

    def __init__(self) -> None:
        self._given: Tensor | None = None
        self._made: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, work: Callable[[Tensor], Tensor], given: Tensor) -> Tensor:
        """What `work`, the same every time, makes of `given`; the next call may overwrite it.

        `work` is not kept, since it knows who keeps us: without a cycle, memory is free as soon as a batch is.
        """
        if given.device.type != "cuda":
            return work(given)
        if self._given is None:
            self._given = given.clone()
            with _aside(given.device):
                return work(self._given)
        self._given.copy_(given)
        if self._graph is None:
            graph = torch.cuda.CUDAGraph()
            with _aside(given.device):
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    self._made = work(self._given)
                finally:
                    graph.capture_end()
            self._graph = graph
        self._graph.replay()
        assert self._made is not None
        return self._made


@contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """On a stream of its own, where alone a step can be recorded, between what came before and what comes after."""
    with ONE_AT_A_TIME:
        here, side = torch.cuda.current_stream(device), _side(device)
        side.wait_stream(here)
        with torch.cuda.stream(side):
            yield
        here.wait_stream(side)


@cache
def _side(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
