"""Which results the page offers, and that a browser's words never become a path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evaluation.extract import NoResults
from evaluation.shelf import MOST_BYTES, Shelf
from lens.validate import Refused
from tests.extracts import extract


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """One shipped, two of one's own, and a folder that was never compared."""
    for path in ("shipped/demo.json", "results/demo/extract.json", "results/mine/extract.json", "secret/extract.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        extract(path).write(tmp_path / path)
    (tmp_path / "results" / "unfinished").mkdir()
    return Shelf(tmp_path / "results", tmp_path / "shipped")


def test_shipped_results_come_first_and_own_ones_keep_their_folder_s_name(shelf: Shelf) -> None:
    assert shelf.names == ["demo", "results/demo", "results/mine"]
    assert [shelf[name].name for name in shelf.names] == [
        "shipped/demo.json", "results/demo/extract.json", "results/mine/extract.json"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["../secret", "results/../secret", "/etc/passwd", "demo.json", "", None, ["demo"], "a\nb"]
)
def test_a_path_opens_nothing(shelf: Shelf, name: object) -> None:
    with pytest.raises((NoResults, Refused)):
        shelf[name]


def test_a_near_miss_is_offered(shelf: Shelf) -> None:
    with pytest.raises(NoResults, match=r"Did you mean 'results/mine'\? There are: demo, results/demo, results/mine\."):
        shelf["results/mime"]


def test_results_that_were_compared_again_are_read_again(shelf: Shelf) -> None:
    assert shelf["results/mine"] is shelf["results/mine"]
    assert shelf.own is not None
    extract("anew").write(shelf.own / "mine" / "extract.json")
    assert shelf["results/mine"].name == "anew"


def test_a_file_that_is_too_large_or_damaged_is_refused_with_a_sentence(shelf: Shelf) -> None:
    assert shelf.own is not None
    path = shelf.own / "mine" / "extract.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="is no extract of results"):
        shelf["results/mine"]
    os.truncate(path, MOST_BYTES + 1)  # a hole: no bytes on the disk
    with pytest.raises(Refused, match="a page shows at most"):
        shelf["results/mine"]


def test_a_fresh_folder_has_only_what_ships(tmp_path: Path) -> None:
    assert Shelf(tmp_path / "results", tmp_path).names == []
