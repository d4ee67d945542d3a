"""Pictures show every head, and files say what they are."""

import csv
import io
import json
import re
import threading
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from planted import GRID, planted, text_set

from lens import Head
from probes import HeadHistogram, Heatmap, ProbeSet, fit_probes

MARK = "f" * 64


@pytest.fixture(scope="module")
def sets() -> tuple[ProbeSet, ProbeSet]:
    texts = text_set()
    return (
        fit_probes(planted(texts, Head(0, 3), strength=2), texts, "demo-00"),
        fit_probes(planted(texts, Head(1, 2), strength=4), texts, "org/demo-$25$"),
    )


def pictures(sets: tuple[ProbeSet, ProbeSet]) -> list[Heatmap | HeadHistogram]:
    return [Heatmap.of(sets[0]), Heatmap.difference(*sets), HeadHistogram.of(sets[0]), HeadHistogram.of(*sets)]


def carries_all(card: dict, picture: Heatmap | HeadHistogram) -> None:
    assert MARK in card["checkpoints"].values()
    assert "demo-00" in card["checkpoints"]
    assert card["probe_set"] == "planted"
    assert card["made_at"] == picture.made_at
    assert "share of held-out texts" in card["unit"]
    assert {"rule", "split", "n_test", "majority", "null_band", "texts_digest"} <= set(card)


@pytest.mark.parametrize("which", range(4))
def test_a_png_carries_its_card(sets, which):
    picture = pictures(sets)[which]
    image = Image.open(io.BytesIO(picture.to_png()))
    carries_all(json.loads(image.text["hormesis"]), picture)
    assert np.asarray(image.convert("L")).std() > 10


@pytest.mark.parametrize("which", range(4))
def test_an_svg_carries_its_card(sets, which):
    picture = pictures(sets)[which]
    root = ElementTree.fromstring(picture.to_svg())
    dublin = {
        element.tag.split("}")[1]: "".join(element.itertext())
        for element in root.iter()
        if "dc/elements" in element.tag
    }
    carries_all(json.loads(dublin["description"]), picture)
    assert dublin["date"] == picture.made_at
    assert MARK in dublin["identifier"]


def test_the_table_holds_every_head_with_its_interval(sets):
    rows = list(csv.DictReader(io.StringIO(Heatmap.of(sets[0]).to_csv().decode())))
    assert [row["head"] for row in rows] == [str(head) for head in GRID]
    for row, head in zip(rows, GRID, strict=True):
        estimate = sets[0].accuracy(head)
        written = [float(row[c]) for c in ("accuracy (share of held-out texts)", "low (95 %)", "high (95 %)")]
        assert written == pytest.approx([estimate.value, estimate.low, estimate.high], abs=1e-6)
        assert (row["within_chance"] == "true") == (estimate.value <= sets[0].null_band[1])
        assert json.loads(row["checkpoints"]) == {"demo-00": MARK}
        assert row["probe_set"] == "planted"


def test_json_and_table_agree(sets):
    heatmap = Heatmap.difference(*sets)
    found = json.loads(heatmap.to_json())
    carries_all(found, heatmap)
    rows = list(csv.DictReader(io.StringIO(heatmap.to_csv().decode())))
    written = [float(row["difference in accuracy (share of held-out texts)"]) for row in rows]
    assert written == pytest.approx(np.array(found["values"]).flatten(), abs=1e-6)


def test_a_difference_is_after_minus_before_and_zero_is_its_centre(sets):
    heatmap = Heatmap.difference(*sets)
    assert heatmap.values[1, 2] > 0.3
    assert heatmap.values[0, 3] < -0.1
    np.testing.assert_allclose(heatmap.values, sets[1].heads.accuracies - sets[0].heads.accuracies)
    assert heatmap.scale[0] == -heatmap.scale[1]
    assert not Heatmap.difference(sets[0], sets[0]).values.any()


def colour_of(heatmap: Heatmap, layer: int, index: int) -> np.ndarray:
    image = heatmap._figure().axes[0].images[0]
    return np.array(image.cmap(image.norm(heatmap.values[layer, index])))


def test_equal_numbers_have_equal_colours_on_a_shared_scale(sets):
    one, other = (Heatmap.of(probes, scale=(0.3, 1.0)) for probes in (sets[0], sets[0]))
    assert np.array_equal(colour_of(one, 1, 1), colour_of(other, 1, 1))
    white = colour_of(Heatmap.difference(sets[0], sets[0]), 0, 0)
    assert white[:3].min() > 0.95  # no difference, no colour


def test_the_colour_bar_marks_majority_and_null_band(sets):
    bar = Heatmap.of(sets[0])._figure().axes[1]
    lines = {round(float(line.get_ydata()[0]), 6) for line in bar.lines}
    assert {round(end, 6) for end in (sets[0].majority, *sets[0].null_band)} <= lines
    assert {"larger class", "null band"} <= {text.get_text() for text in bar.texts}
    low, high = bar.get_ylim()
    assert all(low <= line <= high for line in lines)


def test_heads_within_the_null_band_are_hatched_and_no_others(sets):
    axes = Heatmap.of(sets[1])._figure().axes[0]
    assert len([patch for patch in axes.patches if patch.get_hatch()]) == sum(
        sets[1].accuracy(head).value <= sets[1].null_band[1] for head in GRID
    )


def test_a_title_is_a_file_name_and_shown_as_it_is(sets):
    title = Heatmap.of(sets[1]).title
    assert title == "org-demo-$25$ on planted"
    assert re.search(r"demo-\$25\$", HeadHistogram.of(*sets).title)


def test_a_picture_uses_no_global_state(sets):
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(Heatmap.of(sets[0]).to_png())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sizes = {Image.open(io.BytesIO(picture)).size for picture in found}
    assert len(found) == 3
    assert len(sizes) == 1


def test_grids_of_different_shape_are_not_subtracted(sets):
    import dataclasses

    from lens import HeadGrid

    other = dataclasses.replace(sets[1], grid=HeadGrid(2, 2, 6))
    with pytest.raises(ValueError, match="head by head"):
        Heatmap.difference(sets[0], other)
    with pytest.raises(ValueError, match="one checkpoint or two"):
        HeadHistogram.of(*sets, *sets)
