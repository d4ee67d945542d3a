"""Scores are kept once and for all, by scorer, version and text, whoever writes at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.cache import BrokenCache, ScoreCache, default_cache, text_sha

WRITER = """
import sys
from pathlib import Path
from evaluation.cache import ScoreCache
path, me = Path(sys.argv[1]), int(sys.argv[2])
for i in range(30):
    cache = ScoreCache(path, "made", "1")
    cache.keep({f"{me}-{i}": me / 10, f"shared-{i}": 0.5})
    assert cache.known([f"{me}-{i}"]) == {f"{me}-{i}": me / 10}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "not yet there" / "scores.sqlite"


def test_what_is_kept_is_found_to_the_last_bit(path: Path) -> None:
    scores = {text_sha(f"text {i}"): i / 1237 for i in range(1237)}  # more than one query holds
    ScoreCache(path, "made", "1").keep(scores)
    cache = ScoreCache(path, "made", "1")
    assert cache.known(list(scores)) == scores
    assert cache.known([text_sha("another")]) == {}
    assert cache.known([]) == {}


def test_scorers_and_versions_never_meet(path: Path) -> None:
    for scorer, version, score in (("a", "1", 0.1), ("a", "2", 0.2), ("b", "1", 0.3)):
        ScoreCache(path, scorer, version).keep({"sha": score})
    assert ScoreCache(path, "a", "1").known(["sha"]) == {"sha": 0.1}
    assert ScoreCache(path, "a", "2").known(["sha"]) == {"sha": 0.2}
    assert ScoreCache(path, "b", "2").known(["sha"]) == {}


def test_many_processes_write_at_once_and_nothing_is_lost(path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(i)]) for i in range(6)]
    assert [writer.wait() for writer in writers] == [0] * 6
    shas = [f"{me}-{i}" for me in range(6) for i in range(30)]
    assert ScoreCache(path, "made", "1").known(shas) == {sha: int(sha[0]) / 10 for sha in shas}


def test_what_is_no_score_is_not_kept(path: Path) -> None:
    cache = ScoreCache(path, "made", "1")
    for score in (-0.1, 1.1, float("nan"), None):
        with pytest.raises(BrokenCache, match="constraint failed"):
            cache.keep({"good": 0.5, "bad": score})  # type: ignore[dict-item]
    assert cache.known(["good", "bad"]) == {}


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear neighbours, thank you for the water and the plants. " * 50)
    before = path.read_bytes()
    with pytest.raises(BrokenCache, match=r"letter.txt cannot be used as a cache of scores.*--cache FILE"):
        ScoreCache(path, "made", "1")
    assert path.read_bytes() == before


def test_scores_are_kept_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/hormesis/scores.sqlite")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache/hormesis/scores.sqlite"


@settings(max_examples=200)
@given(st.text(alphabet=st.characters(), max_size=20), st.text(alphabet=st.characters(), max_size=20))
def test_texts_share_a_digest_where_they_are_the_same_and_nowhere_else(one: str, other: str) -> None:
    assert (text_sha(one) == text_sha(other)) == (one == other)


def test_half_a_character_has_a_digest_too() -> None:
    assert text_sha("\ud83d") != text_sha("\ud83e")
