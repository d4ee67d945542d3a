"""One reader for every file of texts: what is damaged, missing or said twice is refused with file and line."""

import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from evaluation.commands.score import score
from evaluation.held_out import held_out
from evaluation.prompts import open_prompts
from lens.line_reader import BadTexts, Lines, Strict
from lens.table_reader import open_table, text
from probes.text_files import open_texts
from steering.options import prompts_from
from training.corpus import CorpusError, Ledger, Reading, Source, documents


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows_of(path: Path) -> list[dict]:
    return [dict(row) for _, row in open_table(path).rows]


@pytest.mark.parametrize(
    ("name", "content", "line", "reason"),
    [
        ("a.csv", "text,label,text\nx,y,z\n", 1, "names the column 'text' twice"),
        ("a.csv", "text,label,Text\nx,y,z\n", 1, "names the column 'text' twice"),
        ("a.csv", "text,label, text \nx,y,z\n", 1, "names the column 'text' twice"),
        ("a.tsv", "text\tlabel\tlabel\nx\ty\tz\n", 1, "names the column 'label' twice"),
        ("a.jsonl", '{"text": "x"}\n{"text": "x", "label": "y", "text": "z"}\n', 2, "names 'text' twice"),
        ("a.jsonl", '{"text": "x", "in": {"a": 1, "a": 2}}\n', 1, "names 'a' twice"),
        ("a.csv", "text,label\nSo,formal,casual\n", 2, "has 3 cells, the header has 2; a cell with the separator"),
        ("a.csv", "text,label,\nSo,formal,casual\n", 2, "has a cell in a column without a name"),
        ("a.csv", 'text,label\n"a\nb",y\n\nc\n', 5, r"has 1 cell, the header has 2\.$"),
        ("a.csv", 'text,label\n"a,y\nb,y\n', 2, "is no CSV: unexpected end of data"),
        ("a.csv", 'text,label\n"a"b,y\n', 2, "is no CSV: ',' expected after '\"'"),
        ("a.csv", "text,label\ra,y\rb,z", 1, "is no CSV: it has a carriage return inside a line"),
        ("a.csv", f"text,label\n{'a' * (2**24 + 1)},y\n", 2, "is no CSV: field larger than field limit"),
        ("a.csv", "", 1, "holds no rows"),
        ("a.csv", "\n \n", 1, "holds no rows"),
        ("a.csv", "text,label\n", 1, "holds no rows"),
        ("a.jsonl", "\n\n", 1, "holds no rows"),
        ("a.jsonl", '[{"text": "x"}]\n', 1, "is no JSON object; expected one on each line"),
        ("a.json", '{\n "text": "x"\n}\n', 1, "is not JSON"),
        ("a.jsonl", '{"text": "x", "n": ' + "9" * 5000 + "}\n", 1, "Exceeds the limit"),
        ("a.csv", "text,label\nx,y\n".encode("utf-16"), 1, "is UTF-16. Save the file as UTF-8"),
        ("a.csv", "text,label\nx,y\n".encode("utf-16-le"), 1, "is UTF-16"),
        ("a.jsonl", '{"text": "x"}\n'.encode("utf-16-be"), 1, "is UTF-16"),
        ("a.csv", "text,label\nx,y\ncafé,y\n".encode("latin-1"), 3, "is no UTF-8: .* Save the file as UTF-8"),
        ("a.csv.gz", b"text,label\nx,y\n", 1, "cannot be read: Not a gzipped file"),
        ("a.csv.zst", zstandard.compress(b"text,label\nx,y\n")[:-3], 2, "cannot be read: it ends in the middle"),
        ("a.csv.gz", b"", 1, "an empty file is not a packed one"),
    ],
)
def test_what_cannot_be_read_is_refused_with_file_and_line(
    name: str, content: str | bytes, line: int, reason: str, tmp_path: Path
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(BadTexts, match=rf"{re.escape(name)}:{line} .*{reason}") as found:
        rows_of(path)
    assert f"{found.value}".startswith(f"{path}:{line} ")


@pytest.mark.parametrize(
    "content",
    [
        "text,label\na,y\nb,z\n",
        "\ufefftext,label\r\na,y\r\n\r\nb,z",
        " text , label\na,y\nb,z\n",
        "text;label\na;y\nb;z\n",
        "text\tlabel\na\ty\nb\tz\n",
        "text|label\na|y\nb|z\n",
        '"text","label"\n"a","y"\n\n\n"b","z"\n\n',
        "\n\ntext,label,,\na,y,,\nb,z,,\n",
        ",text,label\n0,a,y\n1,b,z\n",
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz", "a.csv.zst", "a.tsv"])
def test_a_table_is_read_by_what_separates_its_header(content: str, name: str, tmp_path: Path) -> None:
    pack = {"z": gzip.compress, "t": zstandard.compress}.get(name[-1] if name[-2:] != "sv" else "", bytes)
    path = written(tmp_path / name, pack(content.encode()))
    assert rows_of(path) == [{"text": "a", "label": "y"}, {"text": "b", "label": "z"}]


def test_a_packed_file_is_told_by_its_bytes_too(tmp_path: Path) -> None:
    for pack in (gzip.compress, zstandard.compress):
        assert rows_of(written(tmp_path / "a.csv", pack(b"text\na\n"))) == [{"text": "a"}]


def test_a_row_is_placed_at_the_line_where_it_begins(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'text,label\n\n"a\n\nb",y\nc,z\n')
    assert [(place, row["text"]) for place, row in open_table(path).rows] == [
        (f"{path}:3", "a\n\nb"),
        (f"{path}:6", "c"),
    ]


def test_columns_that_are_missing_are_named_with_those_that_are_there(tmp_path: Path) -> None:
    for name, content, described in (
        ("a.csv", "Text,Label\na,y\n", "the columns 'Text', 'Label', separated by commas"),
        ("a.csv", "Text;Label\na;y\n", "the columns 'Text', 'Label', separated by semicolons"),
        ("a.csv", "text/label\na/y\n", "the column 'text/label'"),
        ("a.jsonl", '{"sentence": "a", "class": "y"}', "the columns 'sentence', 'class'"),
    ):
        with pytest.raises(BadTexts, match=f"{name}:1 has no column .*It has {described}.* to text and label"):
            open_table(written(tmp_path / name, content)).require("text", "label")


def test_half_a_character_is_refused_where_it_is_read_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"text": "a", "name": "\\ud800"}\n{"text": "\\udc00"}\n')
    (place, row), (other, torn) = open_table(path).rows
    assert text(place, row, "text") == "a"
    with pytest.raises(BadTexts, match=r"a\.jsonl:2 holds half a character"):
        text(other, torn, "text")


def test_every_place_that_reads_a_table_refuses_a_duplicate_column(tmp_path: Path) -> None:
    path = str(written(tmp_path / "a.csv", "text,label,text\nx,y,z\n"))
    for read in (open_texts, open_prompts, prompts_from, score, lambda source: list(documents(Source.parse(source)))):
        with pytest.raises(BadTexts, match=r"a\.csv:1 names the column 'text' twice"):
            read(path)


def test_every_place_that_reads_json_lines_refuses_a_duplicate_name(tmp_path: Path) -> None:
    path = str(written(tmp_path / "a.jsonl", '{"text": "x", "label": "y", "text": "z"}\n'))
    for read in (
        open_texts, open_prompts, prompts_from, score, held_out, lambda source: list(documents(Source.parse(source)))
    ):  # fmt: skip
        with pytest.raises(BadTexts, match=r"a\.jsonl:1 names 'text' twice"):
            read(path)


def test_a_corpus_goes_past_what_the_reader_refuses_if_asked(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "text;id\na;1\nb\nc;d;e\nf;2\n")
    ledger = Ledger()
    assert [one.text for one in documents(Source(path), Reading(skip_damaged=2), ledger)] == ["a", "f"]
    assert [entry.split()[0] for entry in ledger.damaged] == ["a.csv:3", "a.csv:4"]
    with pytest.raises(CorpusError, match=r"a\.csv:3 has 1 cell"):
        list(documents(Source(path)))


quickly = settings(max_examples=60, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
PIECES = (
    "text",
    "label",
    "prompt",
    ",",
    ";",
    "\t",
    '"',
    "\n",
    "\r",
    "\ufeff",
    "\x00",
    "{",
    "}",
    '{"text": "a"}',
    "1.0",
)
PIECES += ('{"prompt": {"text": "\\ud800"}}', "- a\\n- b\\n-", "formal", "null", "é", "[" * 30, " ", "text,label\n")
contents = st.one_of(
    st.binary(max_size=120),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=14).map(
        lambda parts: "".join(parts).encode(errors="surrogatepass")
    ),
)


def refusal(read: Callable[[str], object], source: str) -> str | None:
    """What a reader says that refuses a file; it does nothing else."""
    try:
        read(source)
    except BadTexts as error:
        return f"{error}"
    return None


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.csv.gz", "a.jsonl.zst", "a"])
@quickly
@given(content=contents, as_it_is=st.booleans())
@example(content=b"", as_it_is=True)
@example(content=b'text,label\n"', as_it_is=False)
def test_any_bytes_are_read_or_refused_with_file_and_line(
    name: str, content: bytes, as_it_is: bool, tmp_path: Path
) -> None:
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(name).suffix, bytes)
    path = written(tmp_path / name, content if as_it_is else pack(content))
    readers = [open_prompts, prompts_from, held_out, lambda source: open_texts(source, classes=("formal", "1.0"))]
    for read in readers:
        said = refusal(read, str(path))
        assert said is None or re.search(r"a[\w.]*(:\d+ |: | is neither| is no text that| holds no text)", said), said


@quickly
@given(
    cells=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=5)), min_size=1), separator=st.sampled_from(",;\t|")
)
def test_what_was_written_as_a_table_is_read_as_it_was(
    cells: list[tuple[str, str]], separator: str, tmp_path: Path
) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=separator).writerows([("text", "label"), *cells])
    path = written(tmp_path / "a.csv", buffer.getvalue().encode(errors="replace"))
    expected = [tuple(cell.encode(errors="replace").decode() for cell in row) for row in cells]
    assert [tuple(row.values()) for row in rows_of(path)] == expected


def test_lines_are_read_again_after_a_look_ahead() -> None:
    lines = Lines(io.BytesIO(b"\xef\xbb\xbf\n \n\na\nb\n"), Path("a.txt"), Strict())
    assert lines.peek() == "a\n"
    assert [(lines.number, line) for line in lines] == [(1, "\n"), (2, " \n"), (3, "\n"), (4, "a\n"), (5, "b\n")]


def test_standard_input_may_be_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(json.dumps({"text": "a"}).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed)))
    assert [row for _, row in open_table("-").rows] == [{"text": "a"}]
