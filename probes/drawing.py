"""Drawing with matplotlib, whose style is the whole process's: one picture at a time, each in a style of its own."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any

DRAWING = RLock()
"""Held from the first line of a picture to its file: another thread's style would be seen in between."""
REPEATABLE = {"svg.hashsalt": "hormesis"}
"""The same picture is the same file."""


def draw_file(
    draw: Callable[[], Any],
    kind: str,
    metadata: Mapping[str, str | None],
    style: Mapping[str, Any] | None = None,
    dpi: int = 160,
) -> bytes:
    """What `draw` draws as "png" or "svg": matplotlib's own style with changes, whatever the process has set."""
    from matplotlib import rc_context, rcdefaults, rcParams

    file = io.BytesIO()
    with DRAWING, rc_context():
        rcdefaults()
        rcParams.update({**REPEATABLE, **(style or {})})
        draw().savefig(file, format=kind, dpi=dpi, metadata=dict(metadata))
    return file.getvalue()


def empty_figure(width: float, height: float) -> Any:
    """A figure of its own canvas: pyplot's global state is shared by all threads of a server."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
