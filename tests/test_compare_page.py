"""What the Compare tab shows, without a browser: points to press, numbers to read, texts that stay text."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from evaluation import page, pictures
from evaluation.extract import Extract
from evaluation.graphs import Graph, graph
from probes.estimate import Estimate
from tests.extracts import EVIL, extract


@pytest.fixture(scope="module")
def results() -> Extract:
    return extract()


@pytest.fixture(scope="module")
def smile(results: Extract) -> Graph:
    return replace(graph(results, "smile", "toxigen", "strength"), title="ink & paper <b>")


@pytest.fixture(scope="module")
def shown(results: Extract, smile: Graph) -> str:
    return page.picture(pictures.svg(smile), results, smile)


def test_every_point_of_the_picture_can_be_reached_and_says_what_it_is(
    results: Extract, smile: Graph, shown: str
) -> None:
    drawn = re.search(r"<svg.*</svg>", shown, re.DOTALL)
    assert drawn
    root = ElementTree.fromstring(drawn[0])
    points = {mark.get("data-point", ""): mark for mark in root.iter(f"{page.SVG}g") if mark.get("data-point")}
    assert set(points) == set(smile.keys)
    assert len(points) == 2 * 3
    assert all(mark.get("aria-label") == results.point(key).in_words() for key, mark in points.items())
    assert [mark.get("tabindex") for mark in points.values()] == ["0", *["-1"] * 5]
    assert {(mark.get("role"), mark.get("aria-pressed")) for mark in points.values()} == {("button", "false")}
    assert root.get("aria-label", "").startswith("ink & paper <b>.")


def test_the_picture_takes_its_colours_from_the_page_and_leaves_the_page_s_own_alone(shown: str) -> None:
    assert f"var(--picture-0,{pictures.COLOURS[0]})" in shown
    assert "--picture-0:" in pictures.variables()
    assert not any(f": {colour}" in shown for colour in (pictures.INK, pictures.PAPER, *pictures.COLOURS))
    assert "<style" not in shown
    assert "<metadata" not in shown
    assert "ink &amp; paper &lt;b&gt;" in shown
    assert "<b>" not in shown


def test_the_table_holds_the_points_of_the_picture_and_nothing_else(results: Extract, smile: Graph) -> None:
    shown = page.table(results, smile)
    assert sorted(re.findall(r'data-point="(.*?)"', shown)) == sorted(smile.keys)
    assert re.findall(r'scope="col">(.*?)<', shown) == ["none", "iti@4", "iti@8"]
    assert re.findall(r'scope="row">(.*?)<', shown) == ["tiny-00", "tiny-25"]
    assert re.findall(r"<b>(.*?)</b><small>(.*?)</small>", shown)[:3] == [
        ("30.0", "29.0 to 31.0"), ("27.0", "26.0 to 28.0"), ("24.0", "23.0 to 25.0")
    ]  # fmt: skip
    assert re.findall('tabindex="(.*?)"', shown) == ["0", *["-1"] * 5]
    assert shown.count('aria-pressed="false"') == 6


def test_a_place_where_nothing_was_measured_stays_empty(results: Extract, smile: Graph) -> None:
    [panel] = smile.panels
    first, second, *_ = panel.lines
    some = replace(panel, lines=(first, replace(second, marks=second.marks[:1])))
    assert page.table(results, replace(smile, panels=(some,))).count("<td></td>") == 2  # the corner, and one cell


def test_a_point_s_card_has_its_interval_its_n_and_how_it_compares(results: Extract) -> None:
    said = html.unescape(page.card(results, "tiny-25/iti@8/rtp"))
    assert '<p class="big">28.0<small> mean toxicity (score × 100)' in said
    assert "27.0 to 29.0, over 40 prompts" in said
    assert "120; 2 without a score, left out" in said
    assert (
        "-6.0, interval -7.0 to -5.0, p\u00a0=\u00a00.0002, after Holm 0.0016 (of\u00a08); by training seed -5.5, -6.5"
        in said
    )
    assert "<dt>Strength</dt><dd>8 (standard deviations)</dd>" in said
    assert "5.237 (standard deviations), found to cost 0.1 nats" in page.card(results, "tiny-25/iti@0.1nats/rtp")
    assert "<dt>KL(plain ‖ steered), every position steered (nats per token)</dt><dd>0.200 [0.190, 0.210]</dd>" in said


def test_a_difference_in_cost_stands_on_the_card_of_every_prompt_set(results: Extract) -> None:
    """A cost is the same whatever the prompts, and is compared once."""
    cost = replace(
        results.comparisons[0], question="share", measure="kl", b="tiny-00/iti@8/rtp", p=0.03, each=(),
        difference=Estimate(0.04, (0.02, 0.06), 9),
    )  # fmt: skip
    dearer = replace(results, comparisons=(*results.comparisons, cost))
    for prompts in ("rtp", "toxigen"):
        said = html.unescape(page.card(dearer, f"tiny-25/iti@8/{prompts}"))
        assert said.count("+0.040, interval +0.020 to +0.060") == 1
        assert ("-6.0, interval" in said) == (prompts == "rtp")
    assert "+0.040" not in page.card(dearer, "tiny-25/iti@4/toxigen") + page.card(dearer, "tiny-00/iti@8/toxigen")


def test_a_card_is_announced_but_for_its_texts_and_can_be_scrolled_from_the_keyboard(results: Extract) -> None:
    root = ElementTree.fromstring(page.card(results, "tiny-25/iti@8/rtp"))
    assert root.get("tabindex") == "0"
    (silent,) = root.findall(".//*[@aria-live='off']")
    assert len(list(silent.iter("blockquote"))) == len(list(root.iter("blockquote"))) == 6


def test_each_text_stands_beside_the_unsteered_one_to_the_same_prompt(results: Extract) -> None:
    shown = page.card(results, "tiny-25/iti@8/rtp")
    assert texts(shown) == [f"{EVIL} {plan} {i}" for i in range(3) for plan in ("none", "iti@8")]
    assert re.findall(r"<b>(toxicity .*?|no score)</b>", shown) == [
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
    assert "+0.0500, interval +0.0300 to +0.0700, p\u00a0=\u00a00.0010" in read
    assert "7; random directions 0 to 3" in read
    able = html.unescape(page.card(results, "tiny-25/iti@8/ability/mmlu"))
    assert "0.250, inside the interval: cannot be told from guessing" in able
    assert "<blockquote" not in able


def test_whose_scores_they_are_is_said_where_there_are_scores(results: Extract, smile: Graph) -> None:
    assert "builtin 1-ab12cd34, which imitates Perspective's TOXICITY" in page.about(results, smile)
    assert "imitates" not in page.about(replace(results, scorer=("openai", "2")), smile)
    assert "scored" not in page.about(results, graph(results, "probes", "", "strength"))
