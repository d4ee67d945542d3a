"""All heads of one checkpoint or two as a histogram, with what chance reaches, as an SVG for the page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 620, 210, 34, 10, 22, 38


@dataclass(frozen=True)
class Bins:
    """Equal steps that hold every value."""

    low: float
    step: float
    n: int

    @classmethod
    def over(cls, values: Sequence[float], about: int = 20) -> Bins:
        """About so many steps of a round width: 0.001, 0.002, 0.005, 0.01 ..."""
        span = max(max(values) - min(values), 0.01)
        rough = span / about
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
        first = math.floor(min(values) / step + 1e-9)
        last = math.floor(max(values) / step + 1e-9)
        return cls(first * step, step, last - first + 1)

    @property
    def high(self) -> float:
        return self.low + self.n * self.step

    def counts(self, values: Sequence[float]) -> list[int]:
        """How many values fall into each step."""
        found = [0] * self.n
        for value in values:
            found[min(self.n - 1, max(0, math.floor((value - self.low) / self.step + 1e-9)))] += 1
        return found


@dataclass(frozen=True)
class Histogram:
    """Accuracies of all heads, with the marks they are read against."""

    names: tuple[str, ...]
    """One checkpoint or two."""
    accuracies: tuple[tuple[float, ...], ...]
    majority: float
    null_band: tuple[float, float]
    """Of the first checkpoint."""

    def to_svg(self) -> str:
        """Bars for the first checkpoint, an outline for the second."""
        bins = Bins.over([*(a for values in self.accuracies for a in values), self.majority, *self.null_band])
        counts = [bins.counts(values) for values in self.accuracies]
        most = max(max(row) for row in counts)

        def x(value: float) -> float:
            return LEFT + (value - bins.low) / (bins.high - bins.low) * (WIDTH - LEFT - RIGHT)

        def y(count: float) -> float:
            return HEIGHT - BOTTOM - count / most * (HEIGHT - TOP - BOTTOM)

        left, right = x(self.null_band[0]), x(self.null_band[1])
        parts = [
            f'<rect class="band" x="{left:.1f}" y="{TOP}" width="{max(right - left, 1):.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"/>',
            *(_bar(x(bins.low + i * bins.step), x(bins.low + (i + 1) * bins.step), y(n), y(0))
              for i, n in enumerate(counts[0]) if n),
            *(_outline(counts[1], bins, x, y) if len(counts) > 1 else []),
            f'<line class="majority" x1="{x(self.majority):.1f}" x2="{x(self.majority):.1f}" y1="{TOP}" y2="{y(0)}"/>',
            _label(x(self.majority), TOP - 8, "larger class"),
            _label((left + right) / 2, TOP - 8, "null band") if abs((left + right) / 2 - x(self.majority)) > 70 else "",
            *_axis(bins, most, x, y),
        ]  # fmt: skip
        return (
            f'<figure class="histogram"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{html.escape(self.in_words())}">{"".join(parts)}</svg></figure>'
        )

    def in_words(self) -> str:
        """The picture for those who do not see it."""
        each = "; ".join(
            f"{name}: {len(values)} heads from {min(values):.3f} to {max(values):.3f}, "
            f"{sum(value > self.null_band[1] for value in values)} above chance"
            for name, values in zip(self.names, self.accuracies, strict=True)
        )
        return f"Histogram of accuracies. {each}."


def _bar(left: float, right: float, top: float, floor: float) -> str:
    width, height = right - left - 1, floor - top
    return f'<rect class="a" x="{left + 0.5:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _outline(counts, bins: Bins, x, y) -> list[str]:  # type: ignore[no-untyped-def]
    points = [f"{x(bins.low):.1f},{y(0):.1f}"]
    for i, n in enumerate(counts):
        points += [f"{x(bins.low + (i + side) * bins.step):.1f},{y(n):.1f}" for side in (0, 1)]
    points.append(f"{x(bins.high):.1f},{y(0):.1f}")
    return [f'<polyline class="b" points="{" ".join(points)}"/>']


def _axis(bins: Bins, most: int, x, y) -> list[str]:  # type: ignore[no-untyped-def]
    every = max(1, math.ceil(bins.n / 8))
    ticks = [bins.low + i * bins.step for i in range(0, bins.n + 1, every)]
    return [
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0)}" y2="{y(0)}"/>',
        *(_label(x(tick), y(0) + 15, f"{tick:.3f}".rstrip("0").rstrip(".")) for tick in ticks),
        _label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, "accuracy (share of held-out texts)"),
        _label(LEFT - 6, y(most) + 4, str(most), "end"),
        _label(LEFT - 6, y(0) + 4, "0", "end"),
    ]


def _label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
