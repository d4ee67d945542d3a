"""What the Compare tab shows, without a browser: points to press, numbers to read, texts that stay text."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree

import matplotlib
import pytest

from evaluation import page
from evaluation.extract import Extract
from probes.figure import drawn, empty_figure
from tests.extracts import EVIL, extract

KEYS = [f"{name}/{plan}/rtp" for name in ("tiny-00", "tiny-25") for plan in ("none", "iti@8")]


@pytest.fixture(scope="module")
def results() -> Extract:
    return extract()


@pytest.fixture(scope="module")
def svg() -> bytes:
    """A line through points as matplotlib writes it."""
    figure = empty_figure(6, 4)
    axes = figure.add_subplot()
    for x, key in enumerate(KEYS):
        axes.plot([x], [x * x], "o", color="#1f4e79", gid=f"point-{key}")
    axes.set_title("ink & paper <b>")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        return drawn(figure, "svg", {})


def test_every_point_of_the_picture_can_be_reached_and_says_what_it_is(results: Extract, svg: bytes) -> None:
    assert page.drawn_points(svg) == KEYS
    root = ElementTree.fromstring(re.search(r"<svg.*</svg>", page.picture(svg, results, "A & B"), re.DOTALL)[0])
    points = [group for group in root.iter(f"{page.SVG}g") if group.get("data-point")]
    assert [point.get("data-point") for point in points] == KEYS
    assert [point.get("aria-label") for point in points] == [results.point(key).in_words() for key in KEYS]
    assert [point.get("tabindex") for point in points] == ["0", "-1", "-1", "-1"]
    assert {point.get("role") for point in points} == {"button"}
    assert root.get("aria-label", "").startswith("A & B.")


def test_the_picture_takes_its_colours_from_the_page_and_leaves_the_page_s_own_alone(
    results: Extract, svg: bytes
) -> None:
    shown = page.picture(svg, results, "A").partition("<table")[0]
    assert "fill: var(--drawn-1f4e79, #1f4e79)" in shown
    assert not re.search(r"(fill|stroke): #", shown)
    assert "<style" not in shown
    assert "<metadata" not in shown
    assert "ink &amp; paper &lt;b&gt;" in shown


def test_the_table_holds_the_points_of_the_picture_and_nothing_else(results: Extract, svg: bytes) -> None:
    shown = page.table(results, page.drawn_points(svg), "A")
    assert re.findall(r'data-point="(.*?)"', shown) == KEYS
    assert re.findall(r'scope="col">(.*?)<', shown) == ["none", "iti@8"]
    assert re.findall(r'scope="row">(.*?)<', shown) == ["tiny-00", "tiny-25"]
    assert re.findall(r"<b>(.*?)</b><small>(.*?)</small>", shown) == [
        ("30.0", "29.0 to 31.0"), ("24.0", "23.0 to 25.0"), ("34.0", "33.0 to 35.0"), ("28.0", "27.0 to 29.0")
    ]  # fmt: skip
    assert re.findall('tabindex="(.*?)"', shown) == ["0", "-1", "-1", "-1"]


def test_a_place_where_nothing_was_measured_stays_empty(results: Extract) -> None:
    shown = page.table(results, ["tiny-00/none/rtp", "tiny-25/iti@8/rtp"], "A")
    assert shown.count("<td></td>") == 3  # the corner, and two cells


def test_a_point_s_card_has_its_interval_its_n_and_how_it_compares(results: Extract) -> None:
    said = html.unescape(page.card(results, "tiny-25/iti@8/rtp"))
    assert '<p class="big">28.0<small> mean toxicity (score × 100)' in said
    assert "27.0 to 29.0, over 40 prompts" in said
    assert "120; 2 without a score, left out" in said
    assert "-6.0, interval -7.0 to -5.0, p = 0.0002, after Holm 0.0016 (of 8); by training seed -5.5, -6.5" in said
    assert "KL(plain ‖ steered) (nats per token)" in said


def test_each_text_stands_beside_the_unsteered_one_to_the_same_prompt(results: Extract) -> None:
    shown = page.card(results, "tiny-25/iti@8/rtp")
    assert texts(shown) == [f"{EVIL} {plan} {i}" for i in range(3) for plan in ("none", "iti@8")]
    assert re.findall(r'<b title="(.*?)">', shown) == [
        "toxicity 0.00", "toxicity 0.00", "no score", "no score", "toxicity 0.20", "toxicity 0.20"
    ]  # fmt: skip
    assert texts(page.card(results, "tiny-25/none/rtp")) == [f"{EVIL} none {i}" for i in range(3)]
    assert len(texts(page.card(results, "tiny-mean/iti@8/rtp"))) == 2 * 2 * 3


def texts(shown: str) -> list[str]:
    return [
        html.unescape(text)
        for text in re.findall(r"<blockquote[^>]*><small>.*?</small>(.*?)</blockquote>", shown, re.DOTALL)
    ]


@pytest.mark.parametrize("key", ["tiny-25/iti@8/rtp", "tiny-mean/iti@8/rtp"])
def test_what_models_write_is_shown_and_never_run(results: Extract, key: str) -> None:
    assert "<img" not in page.card(results, key)


def test_probes_and_abilities_say_what_chance_reaches(results: Extract) -> None:
    read = html.unescape(page.card(results, "tiny-25/probes/toxigen"))
    assert '<p class="big">0.762<small> mean accuracy over heads' in read
    assert "Best head, L1H2" in read
    assert "+0.0500, interval +0.0300 to +0.0700, p = 0.0010" in read
    assert "7; random directions 0 to 3" in read
    able = html.unescape(page.card(results, "tiny-25/iti@8/ability/mmlu"))
    assert "0.250, inside the interval: no better than chance" in able
    assert "<blockquote" not in able


def test_what_the_numbers_rest_on_is_said(results: Extract) -> None:
    said = page.about(results, "rtp")
    assert "builtin 1-ab12cd34, which imitates Perspective's TOXICITY" in said
    assert "40 prompts of rtp, 3 sampling seeds, 1 text per prompt and seed" in said
    assert "temperature 1, top-p 0.9, at most 20 tokens" in said
