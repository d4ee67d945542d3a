"""Results on disk: whole units or nothing, nothing twice, one writer, one question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.results import InUse, OtherSweep, Results

UNITS = [[{"kind": "generation", "unit": unit, "plan": plan, "texts": ["é\u2028"]} for plan in "pq"] for unit in "abc"]
LINES = [row for rows in UNITS for row in rows]


def written(folder: Path) -> bytes:
    with Results(folder) as results:
        for rows in UNITS:
            results.append(rows)
    return (folder / "rows.jsonl").read_bytes()


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    written(tmp_path)
    assert list(Results(tmp_path).rows()) == LINES
    assert list(Results(tmp_path).rows("cost")) == []
    assert Results(tmp_path).done() == {(unit, plan) for unit in "abc" for plan in "pq"}
    assert list(Results(tmp_path / "none").rows()) == []


@given(st.data())
def test_cut_at_any_byte_and_written_again_the_file_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("results")
    whole = written(folder)
    cut = data.draw(st.integers(0, len(whole)))
    (folder / "rows.jsonl").write_bytes(whole[:cut])
    assert list(Results(folder).rows()) == LINES[: whole[:cut].count(b"\n")]
    assert written(folder) == whole


def test_the_same_unit_again_adds_nothing(tmp_path: Path) -> None:
    assert written(tmp_path) == written(tmp_path)


def test_a_second_writer_is_refused_while_the_first_writes(tmp_path: Path) -> None:
    with Results(tmp_path) as first:
        first.append(UNITS[0])
        with pytest.raises(InUse, match="Another process writes"):
            Results(tmp_path).append(UNITS[1])
        assert list(Results(tmp_path).rows()) == UNITS[0]
    with Results(tmp_path) as second:
        second.append(UNITS[1])


def test_another_question_is_refused_with_the_difference(tmp_path: Path) -> None:
    asked = {"seeds": (0, 1), "plans": ["none"], "text": "x" * 200}
    for _ in range(2):
        with Results(tmp_path) as results:
            results.describe(asked)
    with Results(tmp_path) as results, pytest.raises(OtherSweep) as refused:
        results.describe({**asked, "seeds": (0, 1, 2)})
    assert "seeds: [0, 1] there, [0, 1, 2] asked" in str(refused.value)
    assert "plans" not in str(refused.value)


def test_a_sweep_may_go_on_elsewhere_and_both_places_are_recorded(tmp_path: Path) -> None:
    here, there = {"torch": "1", "device": "cpu"}, {"torch": "2", "device": "cuda"}
    for made_with in (None, here, there, here):
        with Results(tmp_path) as results:
            results.describe({"seeds": (0,)}, made_with)
    assert json.loads((tmp_path / "sweep.json").read_text()) == {"seeds": [0], "made_with": [here, there]}
    with (
        Results(tmp_path) as results,
        pytest.raises(OtherSweep, match=r"another sweep \(seeds: \[0\] there, \[1\] asked"),
    ):
        results.describe({"seeds": (1,)}, here)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / "rows.jsonl"
    for damage in ("{", "[]", json.dumps({"kind": "cost"})):
        path.write_text(f"{json.dumps(LINES[0])}\n{damage}\n")
        with pytest.raises(ValueError, match=r"rows\.jsonl:2 is no measurement"):
            list(Results(tmp_path).rows())
