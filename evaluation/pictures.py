"""Draws what `evaluation.graphs` says, as PNG and SVG: every point with the SVG id `point-<key>`, text as text.

Colours are after Okabe and Ito, told apart by people with any colour vision, the pale ones darker so that lines stand
out from white paper; each line has its own marker besides.
`for_page` gives an SVG whose colours are CSS variables, so that a page can show it light or dark.
"""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from textwrap import fill
from typing import Any

from evaluation.graphs import Graph, Line, Mark, Panel
from probes.drawing import draw_file

INK, FAINT, PAPER = "#1b1f24", "#8a919a", "#fffffe"
COLOURS = ("#0072b2", "#d55e00", "#00946c", "#b8618f", "#a87900", "#3391c7", "#7a5c99", "#555b63")
DARK = ("#58b0ee", "#ff8a4c", "#2fc79b", "#e79cc5", "#f2bd4a", "#8fd0f5", "#b79ad6", "#b4bac2")
"""The same on a dark page."""
MARKERS = "osD^vPX*"
WIDTH, PANEL_HEIGHT = 7.0, 3.6
"""Inches; at 100 dots per inch as wide as the page's column."""
REMARK_LETTERS = 78
"""Of a remark, in a line as wide as the figure."""
STYLE = {
    "svg.fonttype": "none",  # letters stay letters: they can be read aloud, searched and recoloured
    "font.size": 9,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
}


def variables() -> str:
    """CSS for a page that shows these pictures."""
    named = {"ink": (INK, "#e6e8eb"), "faint": (FAINT, "#79818b"), "paper": (PAPER, "transparent")}
    named |= {str(i): pair for i, pair in enumerate(zip(COLOURS, DARK, strict=True))}
    light, dark = (";".join(f"--picture-{name}:{pair[side]}" for name, pair in named.items()) for side in (0, 1))
    return f":root{{{light}}}.dark{{{dark}}}"


def for_page(svg: str) -> str:
    """The `<svg>` alone, as wide as its place, its colours the variables of `variables`."""
    inner = svg[svg.index("<svg") :]
    for name, colour in (("ink", INK), ("faint", FAINT), ("paper", PAPER), *enumerate(COLOURS)):
        inner = inner.replace(colour, f"var(--picture-{name},{colour})")
    return inner


def svg(graph: Graph) -> str:
    """Without the time of drawing, so that equal results give equal files."""
    metadata = {"Date": None, "Title": graph.title, "Creator": "Hormesis"}
    return draw_file(lambda: draw(graph), "svg", metadata, STYLE, dpi=200).decode()


def png(graph: Graph) -> bytes:
    return draw_file(lambda: draw(graph), "png", {"Title": graph.title, "Software": "Hormesis"}, STYLE, dpi=200)


def draw(graph: Graph) -> Any:
    """The figure: up to three panels in a row, one legend, the note below."""
    from matplotlib.figure import Figure

    columns = min(3, len(graph.panels))
    rows = ceil(len(graph.panels) / columns)
    figure = Figure(figsize=(WIDTH, 0.9 + PANEL_HEIGHT * (1 if rows == 1 else 0.72 * rows)), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=graph.name == "frontier", sharey=True, squeeze=False).flat
    looks = {label: i for i, label in enumerate(dict.fromkeys(line.label for p in graph.panels for line in p.lines))}
    drawn: set[str] = set()
    for place, panel in zip(axes, graph.panels, strict=False):
        _panel(place, panel, looks, drawn, fill(panel.remark, REMARK_LETTERS // columns))
    for place in list(axes)[len(graph.panels) :]:
        place.set_visible(False)
    figure.supylabel(graph.y_axis, fontsize=9)
    figure.supxlabel(f"{graph.x_axis}\n\n{fill(graph.note, 105)}", fontsize=8)
    _legend(figure, graph.title, looks)
    return figure


def _panel(axes: Any, panel: Panel, looks: dict[str, int], drawn: set[str], remark: str) -> None:
    axes.set_title(panel.title, pad=8 + 8 * (1 + remark.count("\n")) if remark else None)
    if remark:  # between title and axes: inside, it would lie on intervals
        axes.annotate(remark, (0.5, 1), (0, 3), "axes fraction", "offset points", ha="center", fontsize=6.5)
    if panel.level:
        value, name = panel.level
        axes.axhline(value, color=FAINT, linestyle="--", linewidth=1)
        axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7)
    for line in panel.behind:
        axes.plot([mark.x for mark in line.marks], [mark.y.value for mark in line.marks], color=FAINT, linewidth=1)
    step = _step(panel)
    for number, line in enumerate(panel.lines):
        _line(axes, line, looks[line.label], step * (number - (len(panel.lines) - 1) / 2), drawn)


def _line(axes: Any, line: Line, look: int, aside: float, drawn: set[str]) -> None:
    """The means with their intervals, and each training seed small and hollow."""
    colour, marker = _look(look)
    xs, ys = [mark.x + aside for mark in line.marks], [mark.y.value for mark in line.marks]
    axes.plot(xs, ys, color=colour, linewidth=1.3)
    for mark in line.seeds:
        _mark(axes, mark, mark.x + aside, drawn, marker=marker, markersize=3.5, color=colour, markerfacecolor=PAPER)
    for x, mark in zip(xs, line.marks, strict=True):
        if mark.y.interval:
            axes.plot([x, x], mark.y.interval, color=colour, linewidth=1)
        if mark.x_range:
            axes.plot(mark.x_range, [mark.y.value] * 2, color=colour, linewidth=1)
        _mark(
            axes, mark, x, drawn, marker=marker, markersize=6, color=colour, markeredgecolor=PAPER, markeredgewidth=0.5
        )


def _look(number: int) -> tuple[str, str]:
    """Colour and marker of a line; where the colours begin anew, each comes with another marker."""
    return COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def _mark(axes: Any, mark: Mark, x: float, drawn: set[str], **look: Any) -> None:
    """A point that can be found by its key; one that ends several lines is found once."""
    (found,) = axes.plot([x], [mark.y.value], linestyle="", zorder=3, **look)
    if mark.key not in drawn:
        found.set_gid(f"point-{mark.key}")
        drawn.add(mark.key)


def _step(panel: Panel) -> float:
    """How far lines stand aside, so that intervals at the same x do not hide each other; none where x is measured."""
    marks = [mark for line in panel.lines for mark in line.marks]
    if any(mark.x_range for mark in marks):
        return 0.0
    xs = sorted({mark.x for mark in marks})
    room = min([b - a for a, b in pairwise(xs)] + [(xs[-1] - xs[0]) / 5 or 1.0])
    return room * 0.5 / max(len(panel.lines), 5)


def _legend(figure: Any, title: str, looks: dict[str, int]) -> None:
    """Above the panels, under the title."""
    from matplotlib.lines import Line2D

    def handle(look: int) -> Any:
        colour, marker = _look(look)
        return Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=1.3)

    columns = max(1, min(len(looks), 75 // (6 + max(map(len, looks)))))
    handles = [handle(look) for look in looks.values()]
    options = {"loc": "outside upper center", "frameon": False, "fontsize": 8, "columnspacing": 1.2}
    figure.legend(handles, list(looks), title=title, title_fontsize=11, ncols=columns, **options)
