"""Probe accuracies of a family as points: the same tests as in `probes`, seeds averaged, other texts refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_results import generations, written

from evaluation.cells import read
from evaluation.compare import extract
from evaluation.extract import Extract, Probed
from evaluation.graphs import graph
from evaluation.probed import probed, stored
from evaluation.report_probes import probe_sentences, probe_tables
from lens import Checkpoint
from lens.bench import Bench
from probes.probe import ProbeSet, compare, share_right


@pytest.fixture(scope="module")
def family(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    """Two tiny models with probes; what is clean in one training seed is toxic in the other."""
    folder = tmp_path_factory.mktemp("family")
    places = {"demo-00": "tiny-a", "demo-25": "tiny-b", "demo-00-seed1": "tiny-b", "demo-25-seed1": "tiny-a"}
    for name, tiny in places.items():
        shutil.copytree(bench.checkpoint(tiny).folder, folder / name)
        share, seed = (0.25 if "25" in name else 0.0), int("seed1" in name)
        card = {"name": name, "family": "demo", "toxic_share": share, "seed": seed}
        (folder / name / "checkpoint.json").write_text(json.dumps(card))
    return [Checkpoint.open(folder / name) for name in places]


@pytest.fixture(scope="module")
def points(family: list[Checkpoint]) -> dict[str, Probed]:
    return {point.key: point for point in probed(family, "builtin")}


def test_a_point_holds_what_the_probes_own_tests_say(family: list[Checkpoint], points: dict[str, Probed]) -> None:
    clean, toxic = (ProbeSet.load(checkpoint, "builtin") for checkpoint in family[:2])
    point, other = points["demo-25/probes/builtin"], compare(toxic, clean, np.random.default_rng(0))
    assert point.value.value == pytest.approx(share_right(toxic).mean())
    assert point.difference == other.over_texts.estimate
    assert point.p == other.over_texts.p
    assert point.best == toxic.accuracy(toxic.ranked()[0])
    assert (point.best_head, point.majority) == (str(toxic.ranked()[0]), toxic.majority)
    assert point.difference_by_head is not None
    assert point.difference_by_head.value == pytest.approx(other.by_head.estimate.value)


def test_the_least_toxic_checkpoint_is_compared_with_nothing(points: dict[str, Probed]) -> None:
    assert points["demo-00/probes/builtin"].difference is None
    assert points["demo-0-mean/probes/builtin"].difference is None


def test_a_mean_averages_training_seeds_text_by_text(points: dict[str, Probed]) -> None:
    """The seeds are each other's mirror image, so their mean difference is 0 on every single text."""
    mean, (one, other) = points["demo-25-mean/probes/builtin"], (
        points["demo-25/probes/builtin"], points["demo-25-seed1/probes/builtin"]
    )  # fmt: skip
    assert mean.members == (one.key, other.key)
    assert one.difference and other.difference and mean.difference  # noqa: PT018
    assert one.difference.value == pytest.approx(-other.difference.value)
    assert (mean.difference.value, mean.difference.low, mean.difference.high) == pytest.approx((0, 0, 0))
    assert mean.p == 1
    assert mean.value.value == pytest.approx((one.value.value + other.value.value) / 2)


def test_p_is_adjusted_for_all_comparisons_of_its_table(points: dict[str, Probed], tmp_path: Path) -> None:
    """Two toxic checkpoints and their mean: by hand, the smallest p times 3."""
    given = {"demo-25": 0.01, "demo-25-seed1": 0.04, "demo-25-mean": 0.5}
    some = [replace(p, p=given[key.partition("/")[0]]) if p.p is not None else p for key, p in points.items()]
    rows = written(tmp_path, generations(n_prompts=4, plans=("none",)))
    text = "\n".join(probe_tables(extract(read([rows]), "mine", some)))
    assert "| p of 3 |" in text
    for pair in ("0.0100 | 0.0300", "0.0400 | 0.0800", "0.5000 | 0.5000"):
        assert f"| {pair} |" in text


def test_checkpoints_of_one_name_are_refused(family: list[Checkpoint]) -> None:
    with pytest.raises(ValueError, match="same name"):
        probed([family[0], family[0]], "builtin")


def test_a_set_that_one_of_them_lacks_is_left_out(family: list[Checkpoint]) -> None:
    assert stored(family[:1], ("toxigen",)) == []
    assert stored([]) == []


def test_the_picture_and_the_sentences_hold_them(points: dict[str, Probed], tmp_path: Path) -> None:
    rows = written(tmp_path, generations(n_prompts=4, plans=("none",)))
    found = extract(read([rows]), "mine", list(points.values()))
    (panel,) = graph(found, "probes").panels
    assert [mark.key for mark in panel.lines[0].marks] == ["demo-0-mean/probes/builtin", "demo-25-mean/probes/builtin"]
    assert panel.level == (points["demo-00/probes/builtin"].majority, "always the larger class")
    accuracy, tokens = probe_sentences(found)
    assert "25 % minus the least toxic: +0.00" in accuracy
    assert "our interval spans zero" in accuracy
    for key in ("demo-25", "demo-25-seed1"):
        by_head = points[f"{key}/probes/builtin"].difference_by_head
        assert by_head
        assert f"{100 * by_head.value:+.2f} [{100 * by_head.low:+.2f}, {100 * by_head.high:+.2f}]" in accuracy
    assert f"{points['demo-25/probes/builtin'].countable} of the list's" in tokens
    assert "The paper: 6 and 11" in tokens
    assert all(point.checkpoint in "\n".join(probe_tables(found)) for point in points.values())
    assert Extract.read(found.write(tmp_path / "mine.json")).probes[0].in_words() == found.probes[0].in_words()


def test_a_small_p_stands_beside_the_one_adjusted_for_its_table(points: dict[str, Probed], tmp_path: Path) -> None:
    ps = {"demo-25-mean": 0.02, "demo-25": 0.3, "demo-25-seed1": 0.7}
    planted = [replace(one, p=ps.get(one.key.partition("/")[0])) for one in points.values()]
    found = extract(read([written(tmp_path, generations(n_prompts=4, plans=("none",)))]), "mine", planted)
    accuracy, _ = probe_sentences(found)
    assert "p = 0.0200, adjusted for the 3 comparisons of its table 0.0600: our interval" in accuracy
    assert "| 0.0200 | 0.0600 |" in "\n".join(probe_tables(found))
