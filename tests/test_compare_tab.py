"""What the Compare tab asks of the package, on results that a sweep could have left: menus, pictures, files, points."""

from __future__ import annotations

import csv
import re
from inspect import signature
from pathlib import Path

import pytest

from evaluation import page
from evaluation.__main__ import COMMANDS
from evaluation.builtin_scorer import BuiltinScorer
from evaluation.extract import NoResults
from evaluation.shelf import Shelf
from evaluation.views import View, card, written
from lens.validate import Refused
from tests.extracts import extract


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    folder = tmp_path_factory.mktemp("results")
    for name in ("first", "second"):
        (folder / "mine" / name).mkdir(parents=True)
        extract(name).write(folder / "mine" / name / "extract.json")
    return Shelf(folder / "mine", folder)


def chosen(view: View | None) -> list[str]:
    assert view is not None
    return [menu.chosen for menu in view.menus]


def test_the_page_opens_on_the_first_picture_of_the_first_results(shelf: Shelf) -> None:
    view = View.of(shelf, None, None, None, None)
    assert chosen(view) == ["mine/first", "smile", "rtp", "strength"]
    assert view is not None
    assert [len(menu.offered) for menu in view.menus] == [2, 5, 2, 2]
    assert view.menus[1].labelled[0] == ("Toxicity against toxic share", "smile")


def test_choices_that_do_not_go_together_fall_back_to_the_first_there_is(shelf: Shelf) -> None:
    assert chosen(View.of(shelf, "mine/second", "smile", "toxigen", "cost")) == [
        "mine/second", "smile", "toxigen", "cost"
    ]  # fmt: skip
    assert chosen(View.of(shelf, "mine/first", "probes", "toxigen", "cost")) == ["mine/first", "probes", "", "strength"]
    assert chosen(View.of(shelf, "mine/first", ["smile"], 7, "../x")) == ["mine/first", "smile", "rtp", "strength"]


def test_equal_strengths_and_equal_cost_show_different_plans(shelf: Shelf) -> None:
    def plans(basis: str) -> set[str]:
        view = View.of(shelf, "mine/first", "smile", "rtp", basis)
        assert view is not None
        return set(re.findall(r'scope="col">(.*?)<', view.table))

    assert plans("strength") == {"none", "iti@4", "iti@8"}
    assert plans("cost") == {"none", "iti@0.1nats", "caa@0.1nats"}


@pytest.mark.parametrize("picture", ["smile", "frontier", "dose", "probes", "abilities"])
def test_every_point_that_is_drawn_stands_in_the_table_and_opens(shelf: Shelf, picture: str) -> None:
    view = View.of(shelf, "mine/first", picture, None, None)
    assert view is not None
    keys = set(re.findall(r'data-point="(.*?)"', view.picture))
    assert keys == set(re.findall(r'data-point="(.*?)"', view.table)) != set()
    assert all(card(shelf, "mine/first", {"key": key}).startswith('<section class="point-card"') for key in keys)


def test_the_files_hold_what_is_shown(shelf: Shelf) -> None:
    view = View.of(shelf, "mine/first", "frontier", "rtp", "strength")
    assert view is not None
    png, svg, table = map(Path, written(view))
    assert {path.stem for path in (png, svg, table)} == {"first, Toxicity against cost, rtp"}
    assert png.read_bytes().startswith(b"\x89PNG")
    assert set(re.findall('id="point-(.*?)"', svg.read_text())) == set(view.graph.keys)
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert list(dict.fromkeys(row["key"] for row in rows)) == view.graph.keys
    row = next(row for row in rows if row["key"] == "tiny-25/iti@4/rtp")
    assert [float(row[name]) for name in (view.graph.x_axis, view.graph.y_axis, "low (95 %)", "high (95 %)", "n")] == [
        0.1, 31, 30, 32, 40
    ]  # fmt: skip


@pytest.mark.parametrize("said", [{"key": "../../etc/passwd"}, {"key": "x" * 9999}, {"key": ["a"]}, {}, None, "tiny"])
def test_a_point_that_is_not_there_is_refused_with_a_sentence(shelf: Shelf, said: object) -> None:
    with pytest.raises((NoResults, Refused), match=r"has no point|The point should be one line"):
        card(shelf, "mine/first", said)


def test_the_results_that_ship_open_whole_and_were_scored_by_the_scorer_that_ships() -> None:
    shelf, scorer = Shelf(), BuiltinScorer.open()
    view = View.of(shelf, "demo", None, None, None)
    assert view is not None
    found = view.extract
    assert found.scorer == (scorer.name, scorer.version)
    assert {"demo-0-mean/none/rtp", "demo-25-mean/iti@8/rtp"} <= set(re.findall(r'data-point="(.*?)"', view.picture))
    cards = {
        point.key: card(shelf, "demo", {"key": point.key}) for point in (*found.cells, *found.probes, *found.abilities)
    }
    costs = {key for key, said in cards.items() if page.QUESTIONS["share", "kl"] in said}
    for prompts in found.prompt_sets:
        assert {f"demo-10-mean/{plan}/{prompts}" for plan in ("iti@8", "iti@0.1nats")} <= costs


def test_results_that_are_gone_are_said_to_be(shelf: Shelf) -> None:
    with pytest.raises(NoResults, match="There are: mine/first, mine/second"):
        View.of(shelf, "mine/third", None, None, None)


def test_without_results_there_is_nothing_to_draw_but_commands_to_type(tmp_path: Path) -> None:
    assert View.of(Shelf(tmp_path, tmp_path), None, None, None, None) is None
    verbs = re.findall(r"python -m evaluation (\w+) (.*?)(?= &&|$)", page.NO_RESULTS)
    assert [verb for verb, _ in verbs] == ["sweep", "compare"]
    for verb, options in verbs:
        known = signature(COMMANDS[verb].call).parameters
        assert {option.replace("-", "_") for option in re.findall(r"--([\w-]+)", options)} <= set(known)
