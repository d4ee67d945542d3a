"""What the Compare tab asks of the package, one call per thing that is shown; each works without a browser."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cached_property, lru_cache

from evaluation import page, pictures
from evaluation.extract import Extract, NoResults
from evaluation.graphs import TITLES, Graph, available, graph, unique
from evaluation.shelf import Shelf
from lens.files import to_download
from lens.validate import one_line
from probes.figure import file_safe

BASES: dict[str, str] = {"strength": "equal strengths", "cost": "equal cost, in nats per token"}
as_svg = lru_cache(maxsize=64)(pictures.svg)  # many visitors look at the same few pictures
as_png = lru_cache(maxsize=64)(pictures.png)


@dataclass(frozen=True)
class Menu:
    """What one menu offers, given the choices before it."""

    offered: tuple[str, ...]
    chosen: str

    @property
    def labelled(self) -> list[tuple[str, str]]:
        """Labels for people, with the values behind them."""
        return [((TITLES | BASES).get(value, value), value) for value in self.offered]


@dataclass(frozen=True)
class View:
    """One picture of some results."""

    extract: Extract
    menus: tuple[Menu, ...]
    """Results, picture, prompts, basis."""

    @classmethod
    def of(cls, shelf: Shelf, results: object, *wanted: object) -> View | None:
        """What was asked for, or the first there is where these results have nothing of the kind; None: no results."""
        names = tuple(shelf.names)
        if not names:
            return None
        name = str(results or names[0])
        extract = shelf[name]
        menus, left = [Menu(names, name)], available(extract)
        for place, want in enumerate(wanted):
            offered = tuple(unique(one[place] for one in left))
            if not offered:
                raise NoResults(f"{name} holds nothing that a picture could show.")
            value = str(want) if want in offered else offered[0]
            left = [one for one in left if one[place] == value]
            menus.append(Menu(offered, value))
        return cls(extract, tuple(menus))

    @cached_property
    def graph(self) -> Graph:
        name, prompts, basis = (menu.chosen for menu in self.menus[1:])
        return graph(self.extract, name, prompts, basis)  # type: ignore[arg-type]

    @property
    def title(self) -> str:
        """Fit for a file name."""
        return file_safe(f"{self.extract.name}, {self.graph.title}")

    @property
    def picture(self) -> str:
        return page.picture(as_svg(self.graph), self.extract, self.graph)

    @property
    def table(self) -> str:
        return page.table(self.extract, self.graph)


def card(shelf: Shelf, results: object, said: object) -> str:
    """What there is to know about the point that an event of the page names."""
    key = said.get("key") if isinstance(said, dict) else None
    return page.card(shelf[results], one_line(key, "the point", 500))


def written(view: View) -> list[str]:
    """The picture and its numbers as files: PNG, SVG, CSV."""
    contents = {"png": as_png(view.graph), "svg": as_svg(view.graph).encode(), "csv": numbers(view.graph).encode()}
    return [to_download(f"{view.title}.{kind}", content) for kind, content in contents.items()]


def numbers(graph: Graph) -> str:
    """A line per mark of the picture."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["key", "panel", "line", graph.x_axis, graph.y_axis, "low (95 %)", "high (95 %)", "n"])
    for panel in graph.panels:
        for line in panel.lines:
            for mark in (*line.marks, *line.seeds):
                table.writerow([mark.key, panel.title, line.label, mark.x, *mark.y.row])
    return text.getvalue()
