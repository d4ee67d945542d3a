"""The layer × head picture, the difference of two, and the histogram of all heads, as files that say what they are."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from lens.head import Head
from probes.drawing import empty_figure
from probes.figure import file_safe, now, png, provenance, small_print, svg
from probes.probe import ProbeSet

ACCURACY = "accuracy (share of held-out texts)"
CHANGE = "difference in accuracy (share of held-out texts)"
SEQUENTIAL, DIVERGING = "cividis", "RdBu_r"
"""Both tell their ends apart for colour-blind readers."""
ROOM_FOR_NUMBERS = 12
"""Heads in a layer up to which each cell shows its number."""
FIRST, SECOND = "#1f4e79", "#d98200"


@dataclass(frozen=True, eq=False)
class Heatmap:
    """One number per head, with all that is needed to read it."""

    title: str
    """Fit for a file name."""
    quantity: str
    """What the numbers are, with their unit."""
    values: Float[np.ndarray, "layer head"]
    columns: Mapping[str, Shaped[np.ndarray, "layer head"]]
    """What goes into the table beside the values."""
    within_chance: Bool[np.ndarray, "layer head"]
    """True where a head does not leave the null band; hatched."""
    scale: tuple[float, float]
    """Values at the ends of the colour scale."""
    marks: Mapping[str, tuple[float, float]]
    """What the colour bar shows beside the colours: from, to."""
    provenance: Mapping[str, Any]
    made_at: str = field(default_factory=now)

    @classmethod
    def of(cls, probes: ProbeSet, scale: tuple[float, float] | None = None) -> "Heatmap":
        """Accuracies of one checkpoint. Give one `scale` to two pictures that lie side by side."""
        values = probes.heads.accuracies.numpy()
        marks = {"larger class": (probes.majority, probes.majority), "null band": probes.null_band}
        ends = [*values.flatten(), *(end for mark in marks.values() for end in mark)]
        intervals = on_grid(probes, lambda head: (probes.accuracy(head).low, probes.accuracy(head).high))
        return cls(
            title=file_safe(f"{probes.checkpoint} on {probes.name}"),
            quantity=ACCURACY,
            values=values,
            columns={"low (95 %)": intervals[..., 0], "high (95 %)": intervals[..., 1]},
            within_chance=values <= probes.null_band[1],
            scale=scale or (min(ends), max(ends)),
            marks=marks,
            provenance=provenance([probes]),
        )

    @classmethod
    def difference(cls, before: ProbeSet, after: ProbeSet) -> "Heatmap":
        """How accuracies change from one checkpoint to another: after minus before."""
        if before.grid != after.grid:
            raise ValueError(
                f"{before.checkpoint} has {before.grid.n_layers} x {before.grid.n_heads} heads, {after.checkpoint} "
                f"{after.grid.n_layers} x {after.grid.n_heads}: head by head they cannot be compared."
            )
        maps = [cls.of(probes) for probes in (before, after)]
        values = maps[1].values - maps[0].values
        reach = float(np.abs(values).max()) or 0.01
        return cls(
            title=file_safe(f"{after.checkpoint} minus {before.checkpoint} on {after.name}"),
            quantity=CHANGE,
            values=values,
            columns={f"accuracy of {side}": one.values for side, one in zip(("before", "after"), maps, strict=True)},
            within_chance=maps[0].within_chance & maps[1].within_chance,
            scale=(-reach, reach),
            marks={},
            provenance=provenance([before, after]),
        )

    @property
    def card(self) -> dict[str, Any]:
        """What every export carries."""
        return {"title": self.title, "unit": self.quantity, "made_at": self.made_at, **self.provenance}

    def to_json(self) -> bytes:
        """The card, and every number as [layer][head]."""
        numbers = {"values": self.values, **self.columns, "within_chance": self.within_chance}
        table = {name: matrix.tolist() for name, matrix in numbers.items()}
        return json.dumps({**self.card, **table}, indent=1).encode()

    def to_csv(self) -> bytes:
        """One row per head; each row carries the card, for rows get separated from their file's head."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        card = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.card.items()}
        writer.writerow(["head", "layer", "index", self.quantity, *self.columns, "within_chance", *card])
        for layer, index in np.ndindex(*self.values.shape):
            numbers = [f"{matrix[layer, index]:.6f}" for matrix in (self.values, *self.columns.values())]
            chance = str(bool(self.within_chance[layer, index])).lower()
            writer.writerow([Head(layer, index), layer, index, *numbers, chance, *card.values()])
        return text.getvalue().encode()

    def to_png(self) -> bytes:
        """The picture, the card in its text chunks."""
        return png(self._figure, self.card)

    def to_svg(self) -> bytes:
        """The picture, the card in its metadata."""
        return svg(self._figure, self.card)

    def _figure(self) -> Any:
        n_layers, n_heads = self.values.shape
        figure = empty_figure(max(6.4, 3.0 + 0.45 * n_heads), max(3.6, 2.1 + 0.32 * n_layers))
        axes = figure.add_subplot()
        colours = DIVERGING if self.quantity == CHANGE else SEQUENTIAL
        image = axes.imshow(self.values, cmap=colours, vmin=self.scale[0], vmax=self.scale[1], aspect="auto")
        axes.set_xticks(range(n_heads))
        axes.set_yticks(range(n_layers))
        axes.set_xlabel("head")
        axes.set_ylabel("layer")
        axes.set_title(self.title, parse_math=False)
        self._hatch(axes)
        if n_heads <= ROOM_FOR_NUMBERS:
            self._number(axes, image)
        bar = figure.colorbar(image, ax=axes, pad=0.12 if self.marks else 0.04)
        bar.set_label(self.quantity, fontsize=8)
        self._mark(bar)
        small_print(figure, self.provenance, bool(self.within_chance.any()))
        return figure

    def _hatch(self, axes: Any) -> None:
        from matplotlib.patches import Rectangle

        for layer, index in np.argwhere(self.within_chance):
            corner = (index - 0.5, layer - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="///", edgecolor="#99999999", linewidth=0))

    def _number(self, axes: Any, image: Any) -> None:
        form = "+.3f" if self.quantity == CHANGE else ".3f"
        for (layer, index), value in np.ndenumerate(self.values):
            ground = image.cmap(image.norm(value))
            dark = 0.299 * ground[0] + 0.587 * ground[1] + 0.114 * ground[2] < 0.5
            plate = {"facecolor": ground, "linewidth": 0, "pad": 1.0}  # keeps the hatching off the digits
            axes.text(index, layer, format(value, form), ha="center", va="center", fontsize=7,
                      color="white" if dark else "black", bbox=plate)  # fmt: skip

    def _mark(self, bar: Any) -> None:
        beside = bar.ax.get_yaxis_transform()  # across: shares of the bar's width; along: values
        for place, (name, (low, high)) in enumerate(self.marks.items()):
            bar.ax.axhspan(low, high, facecolor="none", edgecolor="white", hatch="////", linewidth=0)
            for end in {low, high}:
                bar.ax.axhline(end, color="black", linewidth=1.2)
            bar.ax.text(-0.25, (low, high)[place], name, transform=beside, ha="right", fontsize=7,
                        va=("top", "bottom")[place])  # fmt: skip


@dataclass(frozen=True, eq=False)
class HeadHistogram:
    """Accuracies of all heads of one checkpoint or two, against chance."""

    sets: tuple[ProbeSet, ...]
    made_at: str = field(default_factory=now)

    @classmethod
    def of(cls, *sets: ProbeSet) -> "HeadHistogram":
        if not 1 <= len(sets) <= 2:
            raise ValueError(f"A histogram shows one checkpoint or two; got {len(sets)}.")
        return cls(sets)

    @property
    def title(self) -> str:
        """Fit for a file name."""
        return file_safe(
            f"all heads of {' and '.join(probes.checkpoint for probes in self.sets)} on {self.sets[0].name}"
        )

    @property
    def card(self) -> dict[str, Any]:
        """What every export carries."""
        unit = f"x: {ACCURACY}; y: number of heads"
        return {"title": self.title, "unit": unit, "made_at": self.made_at, **provenance(self.sets)}

    def to_png(self) -> bytes:
        """The picture, the card in its text chunks."""
        return png(self._figure, self.card)

    def to_svg(self) -> bytes:
        """The picture, the card in its metadata."""
        return svg(self._figure, self.card)

    def _figure(self) -> Any:
        figure = empty_figure(6.4, 4.0)
        axes = figure.add_subplot()
        values = [probes.heads.accuracies.flatten().numpy() for probes in self.sets]
        bins = np.histogram_bin_edges(np.concatenate(values), bins=20)
        looks = ((FIRST, "stepfilled", "////"), (SECOND, "step", "\\\\\\\\"))
        for probes, accuracies, (colour, filled, hatch) in zip(self.sets, values, looks, strict=False):
            low, high = probes.null_band
            axes.axvspan(low, high, facecolor="none", edgecolor=colour, alpha=0.35, hatch=hatch, linewidth=0, zorder=0,
                         label=f"null band, {low:.3f} to {high:.3f}")  # fmt: skip
            axes.hist(accuracies, bins, histtype=filled, color=colour, linewidth=1.8, label=probes.checkpoint)
            axes.axvline(float(accuracies.mean()), color=colour, linestyle="--", label=f"mean, {accuracies.mean():.3f}")
        majority = self.sets[0].majority
        axes.axvline(majority, color="black", linestyle=":", label=f"larger class, {majority:.3f}")
        axes.set_xlabel(ACCURACY)
        axes.set_ylabel("heads")
        axes.yaxis.get_major_locator().set_params(integer=True)
        for line in axes.legend(fontsize=7).get_texts():
            line.set_parse_math(False)
        small_print(figure, provenance(self.sets), hatched=False)
        return figure


def on_grid(probes: ProbeSet, number: Any) -> np.ndarray:
    """What `number` says of every head, [layer head ...]."""
    flat = np.array([number(head) for head in probes.grid])
    return flat.reshape(probes.grid.n_layers, probes.grid.n_heads, *flat.shape[1:])
