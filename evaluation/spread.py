"""The units of a sweep over many processes or machines, by Ray: it starts workers, and does lost work again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby, islice
from typing import Any

from evaluation.results import Row
from evaluation.scorer import Scorer, open_scorer
from evaluation.sweep import Engine
from evaluation.unit import Bench, GenerationUnit, Unit, run

RETRIES = 10
"""How often units are begun again whose worker died; what kills every worker would go on for ever."""


class NoRay(RuntimeError):
    """Ray is not installed, or cannot be reached."""


class WorkersLost(RuntimeError):
    """Units whose workers died, each of them."""


@contextmanager
def spread(
    address: str,
    workers: int | None = None,
    device: str = "auto",
    threads: int = 1,
    scorers: Callable[[str], Scorer] = open_scorer,
) -> Iterator[Engine]:
    """An engine on a Ray cluster, or ("local") on this machine: so many workers, by default all that there is room for.

    Every machine needs Hormesis and the checkpoints in the same folders. The settings are those of a `Bench`, of which
    each worker keeps one.
    """
    ray = _ray()
    try:
        cpus = {"num_cpus": workers * threads} if workers and address == "local" else {}
        ray.init(address, **cpus, include_dashboard=False, log_to_driver=False, logging_level="error")
    except ConnectionError as error:
        raise NoRay(f"There is no Ray cluster at {address} ({error}). Start one, or give --ray local.") from error
    try:
        there = ray.cluster_resources()
        on_gpu = device != "cpu" and there.get("GPU", 0) >= 1
        room = there["GPU"] if on_gpu else there.get("CPU", 1) // threads
        one = ray.remote(num_cpus=threads, num_gpus=int(on_gpu), max_retries=RETRIES)(_rows)
        yield lambda units: _spread(ray, one, units, (device, threads, scorers), workers or max(1, int(room)))
    finally:
        ray.shutdown()


def _spread(ray: Any, one: Any, units: Sequence[Unit], bench: tuple[Any, ...], workers: int) -> Iterator[list[Row]]:
    """The rows of each unit when they are there; few are on their way, so that neighbours share a checkpoint."""
    waiting = (list(some) for _, some in groupby(units, _beginning))
    running = [one.remote(some, bench) for some in islice(waiting, workers)]
    while running:
        (ready,), running = ray.wait(running)
        running += [one.remote(some, bench) for some in islice(waiting, 1)]
        try:
            yield from ray.get(ready)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error  # the worker's own sentence
        except ray.exceptions.RayError as error:
            raise WorkersLost(
                f"Units were begun {RETRIES + 1} times and no worker survived them: {error}. Use fewer --workers if "
                "memory is short. The same command goes on from here."
            ) from error


def _beginning(unit: Unit) -> tuple[Any, ...]:
    """What neighbours have in common that go to one worker: it reads these prompts once for all seeds."""
    return unit.subject, unit.prompts if isinstance(unit, GenerationUnit) else None


def _rows(units: Sequence[Unit], bench: tuple[Any, ...]) -> list[list[Row]]:
    return [run(unit, _bench(*bench)) for unit in units]


@lru_cache(maxsize=1)
def _bench(*settings: Any) -> Bench:
    """This worker's own."""
    return Bench(*settings)


def _ray() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read when Ray starts: it reports to its makers otherwise
    try:
        import ray
    except ImportError as error:
        raise NoRay("Ray is not installed. Install it (pip install ray), or leave --ray away.") from error
    return ray
