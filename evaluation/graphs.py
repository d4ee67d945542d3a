"""What each picture shows, as values: panels of lines of points, by key. `evaluation.pictures` draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from evaluation.extract import COSTS, Able, Cell, Extract, NoResults, Probed
from evaluation.family import percent
from evaluation.plans import PLAIN
from probes.estimate import Estimate, Interval
from steering.methods.table import METHODS

Basis = Literal["strength", "cost"]
"""Which doses are set side by side: equal strengths, or strengths that cost the same nats per token."""
AnyPoint = TypeVar("AnyPoint", Cell, Probed, Able)
SHARE_AXIS = "toxic share (% of training tokens)"
TOXICITY_AXIS = "mean toxicity (score × 100)"
COST_AXIS = f"cost: {COSTS['kl']}"


@dataclass(frozen=True)
class Mark:
    """One point on the page."""

    key: str
    """Of the cell, probed or able point that it stands for."""
    x: float
    y: Estimate
    x_range: Interval | None = None
    """The interval of x, where x is measured too."""


@dataclass(frozen=True)
class Line:
    """Points of one kind, joined in their order."""

    label: str
    marks: tuple[Mark, ...]
    seeds: tuple[Mark, ...] = ()
    """The training seeds that the marks are means of."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    lines: tuple[Line, ...]
    level: tuple[float, str] | None = None
    """A level to read the points against, with its name: chance, or the larger class."""
    remark: str = ""
    behind: tuple[Line, ...] = ()
    """Lines of another panel, drawn pale to compare with."""


@dataclass(frozen=True)
class Graph:
    """One picture."""

    name: str
    title: str
    x_axis: str
    """With its unit."""
    y_axis: str
    panels: tuple[Panel, ...]
    note: str
    """What was measured on what, in a sentence."""

    @property
    def keys(self) -> list[str]:
        """Of all points shown, each once."""
        lines = [line for panel in self.panels for line in panel.lines]
        return list(dict.fromkeys(mark.key for line in lines for mark in (*line.marks, *line.seeds)))


def smile(extract: Extract, prompts: str, basis: Basis) -> Graph:
    """Toxicity against toxic share, a line per dose that was tried at as many shares as any (the paper's Fig. 6)."""
    cells = widest([cell for cell in on(extract, prompts) if doses_at(basis, cell)])
    lines = against_share(extract, cells, {cell.key: cell.plan for cell in cells})
    title = f"{TITLES['smile']} at equal {basis}, {prompts}"
    return Graph(
        "smile", title, SHARE_AXIS, TOXICITY_AXIS, panels("", lines), f"{note(extract, prompts)}{each(extract)}"
    )


def frontier(extract: Extract, prompts: str, basis: Basis) -> Graph:
    """Toxicity against cost, a panel per toxic share and a line per method."""
    cells = [cell for cell in tops(on(extract, prompts)) if "kl" in cell.cost]
    found: list[Panel] = []
    for title, group in by_checkpoint(cells).items():
        methods = [method for method in unique(cell.method for cell in group) if method != PLAIN]
        lines = [Line(method, tuple(sorted(map(_priced, with_plain(group, method)), key=_x))) for method in methods]
        found += panels(title, lines, behind=found[0].lines if found else ())
    return Graph(
        "frontier",
        f"{TITLES['frontier']}, {prompts}",
        COST_AXIS,
        TOXICITY_AXIS,
        tuple(found),
        f"{note(extract, prompts)} {PALE}",
    )


def dose(extract: Extract, prompts: str, basis: Basis) -> Graph:
    """Toxicity against strength, a panel per method and a line per toxic share."""
    cells = tops(on(extract, prompts))
    found: list[Panel] = []
    for method in unique(cell.method for cell in cells):
        if len({cell.strength for cell in cells if cell.method == method}) > 1:
            lines = [
                Line(title, tuple(sorted(map(_dosed, with_plain(group, method)), key=_x)))
                for title, group in by_checkpoint(cells).items()
            ]
            found += panels(dose_title(method), lines)
    title = f"{TITLES['dose']}, {prompts}"
    return Graph("dose", title, "strength (unit: see title)", TOXICITY_AXIS, tuple(found), note(extract, prompts))


def dose_title(method: str) -> str:
    """A method with the unit of its strength."""
    return f"{method} ({METHODS[method.partition(':')[0]].unit})"


def probes(extract: Extract, prompts: str, basis: Basis) -> Graph:
    """Probe accuracy against toxic share, a panel per probe set (the means behind the paper's Fig. 5)."""
    found: list[Panel] = []
    for name in unique(point.probes for point in extract.probes):
        points = [point for point in extract.probes if point.probes == name]
        lines = against_share(extract, points, {point.key: "mean over heads" for point in points})
        found += panels(f"probes {name}", lines, (points[0].majority, "always the larger class"))
    axis = "accuracy (share of held-out texts)"
    return Graph(
        "probes",
        TITLES["probes"],
        SHARE_AXIS,
        axis,
        tuple(found),
        f"Bars: 95 % over held-out texts.{seeds(extract)}{each(extract)}",
    )


def abilities(extract: Extract, prompts: str, basis: Basis) -> Graph:
    """Accuracy on multiple choice against toxic share, a panel per task, chance drawn in."""
    found: list[Panel] = []
    for task in unique(point.task for point in extract.abilities):
        points = [point for point in extract.abilities if point.task == task]
        lines = against_share(extract, points, {point.key: point.plan for point in points})
        guesses, of = sum(point.at_chance for point in tops(points)), len(tops(points))
        remark = f"{guesses} of {of} cannot be told from guessing" if guesses else ""
        found += panels(task, lines, (points[0].chance, "chance"), remark)
    axis = "accuracy (share of questions)"
    return Graph(
        "abilities",
        TITLES["abilities"],
        SHARE_AXIS,
        axis,
        tuple(found),
        f"Bars: 95 % over questions.{seeds(extract)}{each(extract)}",
    )


GRAPHS: dict[str, Callable[[Extract, str, Basis], Graph]] = {
    "smile": smile, "frontier": frontier, "dose": dose, "probes": probes, "abilities": abilities,
}  # fmt: skip
TITLES = {
    "smile": "Toxicity against toxic share",
    "frontier": "Toxicity against cost",
    "dose": "Toxicity against strength",
    "probes": "Probe accuracy against toxic share",
    "abilities": "Multiple choice against toxic share",
}
PALE = "Pale: the lines of the first panel."


def graph(extract: Extract, name: str, prompts: str = "", basis: Basis = "strength") -> Graph:
    """A picture's content by its name in GRAPHS; NoResults where nothing of it was measured."""
    found = GRAPHS[name](extract, prompts or next(iter(extract.prompt_sets)), basis)
    if not found.panels:
        raise NoResults(f"{extract.name} holds no results for the picture {TITLES[name].lower()!r}.")
    return found


def available(extract: Extract) -> list[tuple[str, str, Basis]]:
    """All pictures that these results can fill: name, prompt set ("" where none matters), basis."""
    bases: tuple[Basis, ...] = ("strength", "cost") if any(cell.nats for cell in extract.cells) else ("strength",)
    wanted: list[tuple[str, str, Basis]] = [
        *(("smile", prompts, basis) for prompts in extract.prompt_sets for basis in bases),
        *((name, prompts, "strength") for name in ("frontier", "dose") for prompts in extract.prompt_sets),
        *((name, "", "strength") for name in ("probes", "abilities")),
    ]
    return [one for one in wanted if GRAPHS[one[0]](extract, *one[1:]).panels]


def panels(
    title: str,
    lines: Iterable[Line],
    level: tuple[float, str] | None = None,
    remark: str = "",
    behind: tuple[Line, ...] = (),
) -> tuple[Panel, ...]:
    """One panel, or none if there is nothing on it."""
    filled = tuple(line for line in lines if line.marks)
    return (Panel(title, filled, level, remark, behind),) if filled else ()


def against_share(extract: Extract, points: Sequence[AnyPoint], labels: dict[str, str]) -> list[Line]:
    """Lines over the toxic share by their labels: means over training seeds, with the seeds beside them."""
    lines = []
    for label in unique(labels.values()):
        shown = [point for point in tops(points) if labels[point.key] == label and point.toxic_share is not None]
        seeds = [extract.point(key) for point in shown for key in point.members]
        lines.append(Line(label, tuple(map(_by_share, shown)), tuple(map(_by_share, seeds))))
    return lines


def on(extract: Extract, prompts: str) -> list[Cell]:
    """The cells of one prompt set."""
    return [cell for cell in extract.cells if cell.prompts == prompts]


def doses_at(basis: Basis, cell: Cell) -> bool:
    """Whether a cell belongs to a picture at equal strength, or at equal cost; the plain model belongs to both."""
    return cell.plan == PLAIN or (cell.nats is not None) == (basis == "cost")


def widest(cells: Sequence[Cell]) -> list[Cell]:
    """Without the plans that were tried at fewer shares: a line would seem to know what lies between its points."""
    shares: dict[str, set[float | None]] = {}
    for cell in cells:
        shares.setdefault(cell.plan, set()).add(cell.toxic_share)
    most = max(map(len, shares.values()), default=0)
    return [cell for cell in cells if len(shares[cell.plan]) == most]


def tops(points: Sequence[AnyPoint]) -> list[AnyPoint]:
    """Means over training seeds, and the points that are in none; least toxic checkpoint of each family first."""
    averaged = {key for point in points for key in point.members}
    found = [point for point in points if point.key not in averaged]
    return sorted(found, key=lambda point: (point.family, point.toxic_share or 0.0, point.checkpoint))


def by_checkpoint(cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """Cells by the title of a panel or line: the toxic share, and the checkpoint's name where that is unknown."""
    everything = list(cells)
    several = len({cell.family for cell in everything}) > 1
    found: dict[str, list[Cell]] = {}
    for cell in everything:
        share = None if several or cell.toxic_share is None else f"{percent(cell.toxic_share)} % toxic"
        found.setdefault(share or cell.checkpoint, []).append(cell)
    return found


def with_plain(cells: Iterable[Cell], method: str) -> list[Cell]:
    """The doses of a method with the plain model, where it starts; none if the method is not there."""
    found = [cell for cell in cells if cell.method in (method, PLAIN)]
    return found if any(cell.method == method for cell in found) else []


def note(extract: Extract, prompts: str) -> str:
    """What was measured on what."""
    of, sampling = extract.prompt_sets[prompts], extract.sampling
    return (
        f"{of['n']:,} prompts, {len(extract.seeds) * extract.n_samples} texts to each, temperature "
        f"{sampling['temperature']:g}, top-p {sampling['top_p']:g}, {sampling['max_tokens']} tokens; scorer "
        f"{' '.join(extract.scorer)}. Bars: 95 % over prompts.{seeds(extract)}"
    )


def seeds(extract: Extract) -> str:
    """What becomes of training seeds, where there are several."""
    return " Training seeds are averaged, not resampled." * extract.averages_seeds


def each(extract: Extract) -> str:
    return " Small hollow marks show each seed." * extract.averages_seeds


def unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _by_share(point: Cell | Probed | Able) -> Mark:
    return Mark(point.key, 100 * (point.toxic_share or 0.0), point.value)


def _priced(cell: Cell) -> Mark:
    kl = cell.cost["kl"]
    return Mark(cell.key, kl.value, cell.value, kl.interval)


def _dosed(cell: Cell) -> Mark:
    return Mark(cell.key, cell.strength or 0.0, cell.value)


def _x(mark: Mark) -> float:
    return mark.x
