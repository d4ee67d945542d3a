"""Pictures of a sweep: every mark has its key, stands where its number says, and reads as text in light and dark."""

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import made_results as made
import pytest

from evaluation import pictures
from evaluation.cells import read
from evaluation.compare import extract
from evaluation.extract import Cell, Extract, NoResults
from evaluation.graphs import TITLES, Graph, available, dose_title, graph

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Extract:
    rows = made.generations(), made.generations(prompts="toxigen", seed=1), made.costs(), made.abilities()
    return extract(read([made.written(tmp_path_factory.mktemp("results"), *rows)]), "mine")


@pytest.fixture(scope="module")
def drawn(found: Extract) -> dict[str, tuple[Graph, str]]:
    wanted = {"smile": "rtp", "frontier": "rtp", "dose": "rtp", "abilities": ""}
    graphs = {name: graph(found, name, prompts) for name, prompts in wanted.items()}
    return {name: (one, pictures.svg(one)) for name, one in graphs.items()}


def test_every_picture_that_the_results_can_fill_is_offered(found: Extract) -> None:
    assert [one for one in available(found) if one[1] != "toxigen"] == [
        ("smile", "rtp", "strength"), ("smile", "rtp", "cost"), ("frontier", "rtp", "strength"),
        ("dose", "rtp", "strength"), ("abilities", "", "strength"),
    ]  # fmt: skip
    assert available(replace(found, cells=(), abilities=())) == []
    with pytest.raises(NoResults, match="probe accuracy"):
        graph(found, "probes")


@pytest.mark.parametrize("name", ["smile", "frontier", "dose", "abilities"])
def test_every_point_is_in_the_svg_by_its_key_and_once(name: str, found: Extract, drawn: dict) -> None:
    shown, svg = drawn[name]
    marks = re.findall(r'id="point-([^"]+)"', svg)
    assert sorted(marks) == sorted(shown.keys)
    assert all(found.point(key).in_words() for key in marks)


@pytest.mark.parametrize("name", ["smile", "frontier", "dose", "abilities"])
def test_letters_are_letters_and_axes_name_their_units(name: str, drawn: dict) -> None:
    shown, svg = drawn[name]
    words = " ".join(text for text in ElementTree.fromstring(svg).itertext())
    assert shown.title in words
    for axis in (shown.x_axis, shown.y_axis):
        assert axis in words
        assert "(" in axis
    assert all(panel.title in words for panel in shown.panels)


def test_a_mark_stands_where_its_number_says(drawn: dict) -> None:
    """SVG counts y downwards: heights of the marks are a falling line over their values, one line for all."""
    shown, svg = drawn["smile"]
    heights = heights_of(svg)
    pairs = sorted((mark.y.value, heights[mark.key]) for line in shown.panels[0].lines for mark in line.marks)
    (low, bottom), (high, top) = pairs[0], pairs[-1]
    slope = (top - bottom) / (high - low)
    assert slope < 0
    assert [y for _, y in pairs] == pytest.approx([bottom + slope * (value - low) for value, _ in pairs], abs=0.01)


def heights_of(svg: str) -> dict[str, float]:
    marks = [group for group in ElementTree.fromstring(svg).iter(f"{SVG}g") if group.get("id", "").startswith("point-")]
    return {mark.attrib["id"].removeprefix("point-"): float(next(mark.iter(f"{SVG}use")).attrib["y"]) for mark in marks}


def test_the_smile_shows_means_over_training_seeds_with_each_seed_beside(drawn: dict) -> None:
    shown, _ = drawn["smile"]
    assert [line.label for line in shown.panels[0].lines] == ["none", "prompting", "iti@4", "iti@8"]
    for line in shown.panels[0].lines:
        assert [mark.x for mark in line.marks] == [0, 10, 25]
        assert {mark.key.split("/")[0] for mark in line.marks} == {"demo-0-mean", "demo-10-mean", "demo-25-mean"}
        assert len(line.seeds) == 6


def test_a_plan_tried_at_fewer_shares_draws_no_line_over_the_others(found: Extract) -> None:
    fewer = tuple(cell for cell in found.cells if (cell.plan, cell.toxic_share) != ("iti@4", 0.1))
    shown = graph(replace(found, cells=fewer), "smile", "rtp")
    assert [line.label for line in shown.panels[0].lines] == ["none", "prompting", "iti@8"]


def test_equal_cost_and_equal_strength_are_two_pictures(found: Extract) -> None:
    lines = {basis: graph(found, "smile", "rtp", basis).panels[0].lines for basis in ("strength", "cost")}
    assert [line.label for line in lines["cost"]] == ["none", "iti@0.1nats"]
    assert lines["cost"][0] == lines["strength"][0]


def test_the_frontier_goes_from_the_plain_model_to_the_dearest_dose(found: Extract, drawn: dict) -> None:
    shown, _ = drawn["frontier"]
    assert [panel.title for panel in shown.panels] == ["0 % toxic", "10 % toxic", "25 % toxic"]
    (line,) = [line for line in shown.panels[1].lines if line.label == "iti"]
    assert [mark.key.split("/")[1] for mark in line.marks] == ["none", "iti@4", "iti@0.1nats", "iti@8"]
    cell = found.point(line.marks[2].key)
    assert isinstance(cell, Cell)
    assert line.marks[2].x == cell.cost["kl"].value
    assert line.marks[2].x_range == (cell.cost["kl"].low, cell.cost["kl"].high)


def test_chance_is_drawn_and_said(drawn: dict) -> None:
    shown, svg = drawn["abilities"]
    assert [panel.level for panel in shown.panels] == [(0.25, "chance")] * 2
    assert re.search(r"[1-3] of 3 cannot be told from guessing", svg)


def test_the_same_results_give_the_same_file(drawn: dict) -> None:
    shown, svg = drawn["smile"]
    assert pictures.svg(shown) == svg


def test_a_page_can_show_it_light_or_dark(drawn: dict) -> None:
    """Every colour of ours is a variable, and the page's CSS has a value for each, light and dark."""
    inner, css = pictures.for_page(drawn["smile"][1]), pictures.variables()
    used = set(re.findall(r"var\((--picture-\w+),", inner))
    assert used >= {"--picture-ink", "--picture-faint", "--picture-paper", "--picture-0", "--picture-3"}
    light, dark = css.split(".dark")
    assert all(f"{name}:" in light and f"{name}:" in dark for name in used)
    assert inner.startswith("<svg")
    assert ElementTree.fromstring(inner).tag == f"{SVG}svg"


def contrast(a: str, b: str) -> float:
    """WCAG 2's contrast of two colours."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    bright, dim = sorted((light(a), light(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_lines_stand_out_from_the_page() -> None:
    assert min(contrast(colour, "#16181c") for colour in pictures.DARK) >= 3
    assert min(contrast(colour, pictures.PAPER) for colour in pictures.COLOURS) >= 3
    assert contrast(pictures.INK, pictures.PAPER) >= 7


def test_a_png_is_as_wide_as_two_columns(drawn: dict) -> None:
    data = pictures.png(drawn["abilities"][0])
    assert data.startswith(b"\x89PNG")
    assert int.from_bytes(data[16:20], "big") == 1400


def test_titles_name_all_pictures() -> None:
    assert list(TITLES) == ["smile", "frontier", "dose", "probes", "abilities"]


def test_a_checkpoint_without_a_known_share_is_drawn_by_its_name(tmp_path: Path) -> None:
    rows = [row | {"checkpoint": "mine", "toxic_share": None, "training_seed": None, "family": "mine"}
            for row in (*made.generations(shares=(0.0,), training_seeds=(0,)),
                        *made.costs(shares=(0.0,), training_seeds=(0,)))]  # fmt: skip
    found = extract(read([made.written(tmp_path, rows)]), "mine")
    assert [one[0] for one in available(found)] == ["frontier", "dose"]
    assert [panel.title for panel in graph(found, "frontier", "rtp").panels] == ["mine"]


def test_a_remark_stands_above_the_axes_and_within_its_panel(drawn: dict) -> None:
    shown, _ = drawn["abilities"]
    remarked = [replace(panel, remark="11 of 12 cannot be told from guessing") for panel in shown.panels]
    figure = pictures.draw(replace(shown, panels=(*remarked, remarked[0])))
    figure.canvas.draw()
    for axes in figure.axes:
        (remark,) = [text for text in axes.texts if "guessing" in text.get_text()]
        box, panel = remark.get_window_extent(), axes.get_window_extent()
        assert panel.x0 - 4 <= box.x0
        assert box.x1 <= panel.x1 + 4
        assert box.y0 >= panel.y1
        assert box.y1 <= axes.title.get_window_extent().y0


def test_a_panel_names_the_unit_of_its_method(drawn: dict) -> None:
    assert dose_title("act") == "act (of the way, 0 to 1)"
    assert dose_title("iti:heads=band") == "iti:heads=band (standard deviations)"
    assert [panel.title for panel in drawn["dose"][0].panels] == ["iti (standard deviations)"]
