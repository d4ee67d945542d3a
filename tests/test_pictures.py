"""What the tabs show, without a browser: texts, maps, histogram, and the files that are saved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lens import Head, HeadGrid
from lens.bench import Bench
from probes import HeadHistogram
from probes.headmap import Cell, Scale, head_map
from probes.histogram import Bins
from probes.page import cells, maps
from probes.views import find, maps_to_save, mask_for, written
from steering.page import Pair, Picture, Written
from tests.test_app import texts


def test_what_people_and_models_write_is_shown_and_never_run() -> None:
    evil = "<script>alert(1)</script>${alert(2)}{{x}}"
    pair = Pair("<i>name", "", Written(evil, 3, True), Written(evil + "<img src=x>", 4, True))
    shown = Picture(evil, (pair,), "8 σ", "").to_html(str)
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<i>" not in shown
    assert texts(shown) == [evil, evil + "<img src=x>"]


def test_the_beginning_that_both_texts_share_is_pale() -> None:
    pair = Pair(
        "a", "", Written(" kind and very old.", 5, True), Written(" kind and very odd. It", 6, False)
    )  # "It" waits
    shown = Picture("They are", (pair,), "8 σ", "").to_html(str)
    assert re.findall(r'class="same">(.*?)<', shown) == [" kind and very"] * 2
    assert re.findall(r'class="own">(.*?)<', shown) == [" old.", " odd. "]
    assert re.findall(r'aria-busy="(\w+)"', shown) == ["false", "true"]


def test_words_of_the_list_are_starred_unless_the_visitor_says_no() -> None:
    word = "".join(["s", "h", "i", "t"])
    assert mask_for(True)(f"oh {word}!") == "oh s***!"
    assert mask_for(None)(f"oh {word}!") == "oh s***!"
    assert mask_for(False)(f"oh {word}!") == f"oh {word}!"


def test_every_head_is_a_button_and_those_within_chance_are_hatched(bench: Bench) -> None:
    probes = find(bench, ["tiny-a"], "builtin")[0]["tiny-a"]
    shown = maps([probes])
    buttons = re.findall(r'<button type="button" class="([\w ]+)".*?tabindex="(-?\d)".*?aria-label="(.*?)"', shown)
    assert len(buttons) == len(probes.grid)
    assert [tabindex for _, tabindex, _ in buttons].count("0") == 1
    for (classes, _, label), head in zip(buttons, probes.grid, strict=True):
        found = probes.accuracy(head)
        assert label.startswith(f"{head}, accuracy {found.value:.3f}, interval {found.low:.2f} to {found.high:.2f}")
        assert ("muted" in classes) == (found.value <= probes.null_band[1]) == ("within chance" in label)


def test_two_maps_share_one_colour_scale(bench: Bench) -> None:
    sets = list(find(bench, ["tiny-a", "tiny-b"], "builtin")[0].values())
    values = [cell.value for probes in sets for cell in cells(probes).values()] + [probes.majority for probes in sets]
    shares = re.findall(r"--t:([\d.]+)", maps(sets))[: 2 * len(sets[0].grid)]
    scale = Scale(min(values), max(values))
    assert shares == [f"{scale.share(cell.value):.3f}" for probes in sets for cell in cells(probes).values()]


def test_the_scale_of_a_difference_has_zero_in_the_middle() -> None:
    scale = Scale.both_ways([-0.02, 0.01])
    grid = HeadGrid(1, 3, 2)
    changes = {Head(0, i): Cell(value, "", "") for i, value in enumerate((-0.02, 0.0, 0.01))}
    shown = head_map("change", grid, changes, scale, diverging=True)
    assert re.findall(r'class="(less|more)[\w ]*" style="--t:([\d.]+)"', shown) == [
        ("less", "1.000"),
        ("more", "0.000"),
        ("more", "0.500"),
    ]


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5001], [0.1, 0.9], [0.58, 0.6, 0.6451, 0.66]])
def test_the_bins_of_the_histogram_hold_every_head_once(values: list[float]) -> None:
    bins = Bins.over(values)
    assert sum(bins.counts(values)) == len(values)
    assert bins.low <= min(values)
    assert bins.high >= max(values)
    assert bins.n <= 60


def test_maps_and_histogram_are_saved_with_the_names_of_the_weights(bench: Bench) -> None:
    sets = list(find(bench, ["tiny-a", "tiny-b"], "builtin")[0].values())
    choices = maps_to_save(sets)
    assert list(choices) == ["tiny-a", "tiny-b", "the difference"]
    spread = written(HeadHistogram.of(*sets), ["png"])
    for file in map(Path, [*written(choices["the difference"]), *spread]):
        content = file.read_bytes()
        assert all(probes.fingerprint.encode() in content for probes in sets), file.suffix


def test_missing_probes_are_said_with_the_command_that_brings_them(bench: Bench) -> None:
    found, missing = find(bench, ["tiny-a", "bare"], "builtin")
    assert list(found) == ["tiny-a"]
    assert len(missing) == 1
    assert "python -m probes fit" in missing[0]
