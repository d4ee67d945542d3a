"""Pictures that are drawn side by side by many threads are those that are drawn one after the other, byte for byte."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import made_results as made
import matplotlib
import numpy as np
import pytest
from planted import planted, text_set

from benchmarks.family import loss_picture
from evaluation import pictures
from evaluation.agree import agreement, picture
from evaluation.cells import read
from evaluation.compare import extract
from evaluation.graphs import graph
from lens import Checkpoint, Head
from probes import HeadHistogram, Heatmap, fit_probes
from probes.drawing import draw_file, empty_figure

Draw = Callable[[], bytes]


@pytest.fixture(scope="module")
def draws(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Draw]:
    """Every kind of picture that we have, as PNG and as SVG."""
    folder, texts = tmp_path_factory.mktemp("pictures"), text_set()
    sets = [fit_probes(planted(texts, Head(0, 3), seed=seed), texts, f"demo-{seed}") for seed in (1, 2)]
    histogram, heatmap = HeadHistogram.of(*sets), Heatmap.difference(*sets)
    results = made.written(folder / "results", made.generations(), made.costs())
    smile = graph(extract(read([results]), "mine"), "smile", "rtp")
    scores = [np.random.default_rng(seed).random(60).round(2).tolist() for seed in (0, 1)]
    related = picture(agreement("a", "b", *scores, np.random.default_rng(0)), *scores)
    curve = [{"step": step, "clean": 5 - step, "toxic": 4 - step} for step in (1, 2)]
    member = Checkpoint("demo", folder, {"n_tokens": 1000, "step": 2, "held_out_curve": curve})

    def losses() -> bytes:
        path = folder / f"{threading.get_ident()}.png"
        loss_picture([member], path)
        return path.read_bytes()

    return {
        "histogram.png": histogram.to_png,
        "histogram.svg": histogram.to_svg,
        "heatmap.png": heatmap.to_png,
        "heatmap.svg": heatmap.to_svg,
        "sweep.png": lambda: pictures.png(smile),
        "sweep.svg": lambda: pictures.svg(smile).encode(),
        "agreement.png": lambda: related("png"),
        "agreement.svg": lambda: related("svg"),
        "losses.png": losses,
    }


@pytest.fixture(scope="module")
def alone(draws: dict[str, Draw]) -> dict[str, bytes]:
    return {name: draw() for name, draw in draws.items()}


def test_threads_draw_what_one_thread_draws(draws: dict[str, Draw], alone: dict[str, bytes]) -> None:
    names = [*draws] * 5
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda name: draws[name](), names))
    assert [name for name, file in zip(names, found, strict=True) if file != alone[name]] == []


def test_the_style_of_the_process_is_neither_used_nor_changed(draws: dict[str, Draw], alone: dict[str, bytes]) -> None:
    with matplotlib.rc_context():
        matplotlib.style.use("dark_background")
        matplotlib.rcParams.update({"font.size": 23, "svg.fonttype": "none", "axes.grid": True})
        before = dict(matplotlib.rcParams)
        assert [name for name, draw in draws.items() if draw() != alone[name]] == []
        assert dict(matplotlib.rcParams) == before


def test_a_picture_that_fails_leaves_no_style_behind() -> None:
    before = dict(matplotlib.rcParams)

    def fails() -> None:
        assert matplotlib.rcParams["font.size"] == 23
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        draw_file(fails, "png", {}, {"font.size": 23})
    assert dict(matplotlib.rcParams) == before
    assert draw_file(lambda: empty_figure(1, 1), "png", {}).startswith(b"\x89PNG")
