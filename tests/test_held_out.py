"""Texts to measure costs on, in the formats that people have them in."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.held_out import beginning, held_out
from steering.cost import plain_text

WIKITEXT = " \n = Robert <unk> = \n \n He had a guest @-@ starring role , in 2000 . \r\n"


def test_plain_is_the_text_that_steering_ships() -> None:
    assert held_out("plain") == plain_text()


@pytest.mark.parametrize("name", ["wiki.test.txt", "wiki.test.txt.gz"])
def test_wikitext_keeps_its_marks_and_line_ends(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = WIKITEXT.encode()
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert held_out(str(path)) == WIKITEXT


@pytest.mark.parametrize("name", ["c4.jsonl", "c4-validation.00000-of-00008.json.gz"])
def test_rows_are_joined_by_an_empty_line_and_halves_by_nothing(tmp_path: Path, name: str) -> None:
    rows = [{"text": "One day.\nThen", "url": "x"}, {"prefix": "half a wo", "gold_completion": "rd more"}]
    content = "\n".join(json.dumps(row) for row in rows).encode() + b"\n\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert held_out(str(tmp_path / name)) == "One day.\nThen\n\nhalf a word more"


def test_a_beginning_ends_with_a_word_and_reads_no_further(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    document = "héllo wörld " * 50
    path.write_text(json.dumps({"text": document}) + "\n" + json.dumps({"text": document}) + "\n{broken")
    found = held_out(f"{path}:1kB")
    assert (document + "\n\n" + document).startswith(found)
    assert 1000 - len("héllo ".encode()) - 2 < len(found.encode()) <= 1000
    assert found.endswith(("héllo", "wörld"))
    with pytest.raises(ValueError, match=r"long\.jsonl:3 is not JSON"):
        held_out(f"{path}:9kB")


@given(st.text(alphabet="aé中🙂 \n", max_size=900))
def test_a_beginning_is_a_beginning_of_at_most_so_many_bytes(text: str) -> None:
    found = beginning(text, 100)
    assert text.startswith(found)
    assert len(found.encode()) <= 100
    assert found == text or text[len(found)].isspace() or not any(map(str.isspace, found))


def test_a_beginning_without_spaces_tears_no_character() -> None:
    assert beginning("é" * 80, 99) == "é" * 49


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.txt", None, "There is no text .*none.txt. Give plain, or a file"),
        ("empty.txt", b" \n", "holds no text"),
        ("table.csv", b"text\na", r"\.txt, \.jsonl or \.json"),
        ("bad.jsonl", b'{"body": "a"}', r"bad\.jsonl:1 has no 'text', and no 'prefix' with a 'gold_completion'"),
        ("number.jsonl", b'{"text": 3}', r"number\.jsonl:1"),
        ("list.jsonl", b"[1]", r"list\.jsonl:1"),
        ("half.jsonl", b'{"prefix": "a"}', r"half\.jsonl:1"),
        ("torn.jsonl", b'{"text": "\\ud800"}', "half a character"),
        ("latin.txt", b"caf\xe9", r"latin\.txt:1 is no UTF-8"),
        ("cut.txt.gz", gzip.compress(b"word " * 99)[:-9], r"cut\.txt\.gz:1 cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        held_out(str(tmp_path / name))
