"""The layer × head map as HTML: buttons that read well aloud, on a colour scale that several maps can share."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lens.head import Head, HeadGrid

KEYS = Path(__file__).with_name("headmap.js")
"""Arrow keys, the line that reads out the cell under the pointer, and the event `open_head`."""
ROOM_FOR_NUMBERS = 12
"""Heads in a layer up to which the number itself fits into its cell."""


@dataclass(frozen=True)
class Cell:
    """One head on the map."""

    value: float
    """What the colour shows."""
    says: str
    """The same in words, for screen readers and for the line under the map."""
    short: str
    """The number as it stands in the cell."""
    muted: bool = False
    """No better than chance: drawn hatched and pale."""


@dataclass(frozen=True)
class Scale:
    """From which value the colour is palest to which it is strongest."""

    low: float
    high: float

    @classmethod
    def around(cls, values: Iterable[float]) -> Scale:
        """From the smallest value to the largest; a little wider if they are all the same."""
        known = list(values)
        low, high = min(known), max(known)
        return cls(low, high) if high > low else cls(low - 0.01, high + 0.01)

    @classmethod
    def both_ways(cls, values: Iterable[float]) -> Scale:
        """Zero in the middle."""
        reach = max((abs(value) for value in values), default=0.0) or 0.01
        return cls(-reach, reach)

    def share(self, value: float) -> float:
        """Where a value stands on the scale, 0 to 1."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def head_map(title: str, grid: HeadGrid, cells: Mapping[Head, Cell], scale: Scale, diverging: bool = False) -> str:
    """One map: a row per layer from the embedding down to the output, a button per head."""
    columns = "".join(f'<th role="columnheader" scope="col">H{index}</th>' for index in range(grid.n_heads))
    rows = "".join(_row(layer, grid, cells, scale, diverging) for layer in range(grid.n_layers))
    size = "roomy" if grid.n_heads <= ROOM_FOR_NUMBERS else "dense"
    return (
        f'<figure class="headmap {size}"><figcaption>{html.escape(title)}</figcaption><div class="scroll">'
        f'<table role="grid" aria-label="{html.escape(title)}: {grid.n_layers} layers by {grid.n_heads} heads. '
        'Arrow keys move, Enter opens a head.">'
        f'<thead><tr role="row"><td></td>{columns}</tr></thead><tbody>{rows}</tbody></table></div>'
        '<p class="readout" aria-hidden="true">&nbsp;</p></figure>'
    )


def _row(layer: int, grid: HeadGrid, cells: Mapping[Head, Cell], scale: Scale, diverging: bool) -> str:
    heads = [Head(layer, index) for index in range(grid.n_heads)]
    buttons = "".join(f'<td role="gridcell">{_button(head, cells[head], scale, diverging)}</td>' for head in heads)
    return f'<tr role="row"><th role="rowheader" scope="row">L{layer}</th>{buttons}</tr>'


def _button(head: Head, cell: Cell, scale: Scale, diverging: bool) -> str:
    share = scale.share(cell.value)
    strength, side = (abs(2 * share - 1), "more" if share >= 0.5 else "less") if diverging else (share, "more")
    classes = f"{side} muted" if cell.muted else side
    says, shown = f"{head}, {html.escape(cell.says)}", html.escape(cell.short)
    return (
        f'<button type="button" class="{classes}" style="--t:{strength:.3f}" data-head="{head}" '
        f'data-row="{head.layer}" data-column="{head.index}" tabindex="{0 if head == Head(0, 0) else -1}" '
        f'data-says="{says}" aria-label="{says}, shown as {shown}">'  # a voice command may name what is seen
        f'<span aria-hidden="true">{shown}</span></button>'
    )


def legend(scale: Scale, majority: float, null_bands: Mapping[str, tuple[float, float]]) -> str:
    """The colour bar, with what a blind guess reaches and what the best head of each map reaches by chance."""
    ends = [scale.share(end) for band in null_bands.values() for end in band]
    left, width = min(ends), max(max(ends) - min(ends), 0.004)
    marks = (
        f'<i class="band" style="left:{left:.1%};width:{width:.1%}"></i>'
        f'<i class="majority" style="left:{scale.share(majority):.1%}"></i>'
    )
    bands = "; ".join(
        f"{low:.3f} to {high:.3f}{f' in {html.escape(name)}' if len(null_bands) > 1 else ''}"
        for name, (low, high) in null_bands.items()
    )
    return (
        '<div class="legend"><div class="bar-row">'
        f'<span>{scale.low:.3f}</span><div class="bar" aria-hidden="true">{marks}</div><span>{scale.high:.3f}</span>'
        f'</div><p><span class="key majority">always guessing the larger class: {majority:.3f}</span> '
        f'<span class="key band">the null band, what the best head reaches by chance: {bands}</span></p></div>'
    )


def difference_legend(scale: Scale, fewer: str, more: str) -> str:
    """The colour bar of a difference: which side stands for which checkpoint."""
    return (
        '<div class="legend"><div class="bar-row">'
        f'<span>{100 * scale.low:+.1f}</span><div class="bar both" aria-hidden="true"></div>'
        f"<span>{100 * scale.high:+.1f} points</span></div>"
        f"<p><span>left: {html.escape(fewer)} is better</span> <span>right: {html.escape(more)} is better</span> "
        '<span class="key band">hatched: both within chance</span></p></div>'
    )
