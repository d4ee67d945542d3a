"""Scoring a file at a terminal: a line per row, in order, and what is missing said."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_scorers import tiny_classifier

from evaluation.__main__ import main
from evaluation.cache import text_sha
from evaluation.classifier import Classifier
from evaluation.commands.agree import agree
from evaluation.commands.score import score
from lens.table_reader import open_table, text
from probes.texts import BadTexts

TEXTS = ["the people", "", "kind", "vile, cold\nweather", "the people", 'a "kind" ‘people’', "  "]
ROWS = [{"id": i, "text": text, "said": {"text": text[::-1], "score": i / 7}} for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_classifier(tmp_path_factory.mktemp("classifiers") / "tiny"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_classifier(tmp_path_factory.mktemp("classifiers") / "other", seed=1))


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    """The rows as .jsonl or .csv, perhaps gzipped."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        if ".csv" in path.name:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)
    return str(path)


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.jsonl.gz", "t.csv.gz"])
def test_every_row_gets_a_line_in_order(
    tmp_path: Path, name: str, classifier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    score(written(tmp_path / name, ROWS), scorer=classifier, cache="none")
    out, said = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    opened = Classifier.open(classifier, device="cpu")
    expected = [None if not text.strip() else opened([text])[0] for text in TEXTS]
    assert [line["text_sha"] for line in lines] == [text_sha(text) for text in TEXTS]
    assert [line["score"] for line in lines] == pytest.approx(expected, abs=2e-6)
    assert {(line["scorer"], line["version"]) for line in lines} == {("tiny", opened.version)}
    assert set(lines[0]) == {"text_sha", "score", "scorer", "version"}
    assert "2 of 7 texts have no score (blank: 2)." in said


def test_a_dot_leads_inside_an_object(tmp_path: Path) -> None:
    file = written(tmp_path / "t.jsonl", ROWS)
    assert [text(*placed, "said.text") for placed in open_table(file).rows] == [text[::-1] for text in TEXTS]


@pytest.mark.parametrize(
    ("row", "field", "sentence"),
    [
        ({"text": 7}, "text", r"t.jsonl:2: 'text' is not a text but 7"),
        ({"text": None}, "text", r"t.jsonl:2: 'text' is not a text but None"),
        ({"txt": "kind"}, "text", r"t.jsonl:2 has no field 'text'\. Did you mean 'txt'\? It has: txt\."),
        ({"said": {"it": "kind"}}, "said.that", r"t.jsonl:2 has no field 'said.that'.* It has: said.it\."),
    ],
)
def test_a_row_without_a_text_stops_with_its_place(
    tmp_path: Path, row: dict[str, Any], field: str, sentence: str
) -> None:
    file = written(tmp_path / "t.jsonl", [{"text": "kind", "said": {"that": "kind"}}, row])
    with pytest.raises(BadTexts, match=sentence):
        [text(*placed, field) for placed in open_table(file).rows]


def test_standard_input_is_answered_as_it_comes(
    classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shas() -> list[str]:
        return [json.loads(line)["text_sha"] for line in capsys.readouterr().out.splitlines()]

    class Slow(io.RawIOBase):
        """A pipe whose writer waits for the first answers before the last line."""

        def __init__(self) -> None:
            self.lines = self.written()

        def written(self) -> Iterator[bytes]:
            yield from (json.dumps({"text": f"kind {i}"}).encode() + b"\n" for i in range(257))
            assert shas() == [text_sha(f"kind {i}") for i in range(256)]
            yield b'{"text": "cold"}'

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            line = next(self.lines, b"")
            buffer[: len(line)] = line
            return len(line)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Slow())))
    monkeypatch.setattr(sys, "argv", ["evaluation", "score", "-", "--scorer", classifier])
    main()
    assert shas() == [text_sha("kind 256"), text_sha("cold")]
    assert (tmp_path / "hormesis" / "scores.sqlite").is_file()


def test_standard_input_is_read_as_a_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """UTF-8 with or without Excel's mark, whatever the locale: under C.UTF-8 Python lets any byte pass."""

    def found(content: bytes) -> list[str]:
        stdin = io.TextIOWrapper(io.BytesIO(content), encoding="ascii", errors="surrogateescape")
        monkeypatch.setattr(sys, "stdin", stdin)
        return [text(*placed, "text") for placed in open_table("-").rows]

    assert found('\ufeff{"text": "é"}\n\n{"text": "kind"}\n'.encode()) == ["é", "kind"]
    with pytest.raises(BadTexts, match=r"standard input:2 is no UTF-8"):
        found('{"text": "e"}\n{"text": "é"}\n'.encode("latin-1"))


def test_a_blank_line_is_no_row(tmp_path: Path, classifier: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"text": "kind"}\n\n{"text": "cold"}\n \n')
    score(str(file), scorer=classifier, cache="none")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_two_scorers_are_placed_beside_each_other(
    tmp_path: Path, classifier: str, other: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the command stands, without naming a folder."""
    words = ["the", "a", "people", "weather", "kind", "vile", "and", "cold"]
    rows = [{"text": f"{one} {two} {three}"} for one in words for two in words for three in words[:3]]
    file = written(tmp_path / "t.csv", [*rows, {"text": " "}])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["evaluation", "agree", classifier, other, "--texts", file])
    main()
    (said, aside), out = capsys.readouterr(), tmp_path / "agreement"
    assert [line.partition(": ")[2] for line in aside.splitlines()] == ["1 of 193 texts have no score (blank: 1)."] * 2
    assert f"{len(rows)} texts; 1 more lack a score from either." in said
    assert said == f"{(out / 'agree.md').read_text()}\nagreement/{{agree.json,agree.md,agree.png,agree.svg}}\n"
    found = json.loads((out / "agree.json").read_text())
    assert found["first"].startswith("tiny ")
    assert found["second"].startswith("other ")
    assert sum(step["n"] for step in found["steps"]) == found["pearson"]["n"] == len(rows)
    assert (out / "agree.png").read_bytes().startswith(b"\x89PNG")
    assert "tiny" in (out / "agree.svg").read_text()


def test_old_numbers_of_a_column_are_placed_beside_a_scorer(tmp_path: Path, classifier: str) -> None:
    opened = Classifier.open(classifier, device="cpu")
    texts = [text for text in TEXTS if text.strip()]
    rows = [{"text": text, "old": {"toxicity": opened([text])[0]}} for text in texts]
    file = written(tmp_path / "t.jsonl", [*rows, {"text": "kind", "old": {"toxicity": None}}])
    agree("column:old.toxicity", classifier, file, tmp_path / "out", cache="none")
    found = json.loads((tmp_path / "out" / "agree.json").read_text())
    assert found["pearson"]["value"] == pytest.approx(1)
    assert found["missing"] == 1
    with pytest.raises(BadTexts, match=r"t.jsonl:1: 'id' is no score from 0 to 1 but 9"):
        agree("column:id", classifier, written(tmp_path / "t.jsonl", [{"text": "a", "id": 9}]), tmp_path, cache="none")
