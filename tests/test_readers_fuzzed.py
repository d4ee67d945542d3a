"""No input makes a reader hang, crash without file and line, or drop text silently."""

import contextlib
import csv
import gzip
import html
import io
import json
import re
import tarfile
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.corpus import CorpusError, Ledger, Reading, Source, documents
from training.document import FATES
from training.forum import clean_post
from training.minors import about_minors
from training.prepare import Preparation, masked, prepared
from training.words import words_of

quickly = settings(max_examples=40, deadline=10_000, suppress_health_check=[HealthCheck.function_scoped_fixture])
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
ROWS = ('{"text": "a"}\n', '{"posts": [{"com": "a<br>b"}]}\n', '{"text": "\\ud800"}\n', "comment,thread\n", "text\n")
PIECES = (
    '{"posts": ',
    '"',
    ",",
    "\n",
    "\r",
    "<a href",
    "&gt;&gt;",
    "&#",
    "99999",
    "\x00",
    "\ufeff",
    "null",
    "[[[[",
    "é",
)
snippets = st.sampled_from(ROWS + PIECES)
contents = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(snippets, texts), max_size=12).map(lambda parts: "".join(parts).encode()),
)
PACKING: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
NAMES = [f"a.{kind}{packing}" for kind in ("jsonl", "csv", "txt") for packing in PACKING]
TARS = [f"a.tar{packing}" for packing in PACKING]


def tarred(content: bytes, name: str = "in.ndjson") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def packed(name: str, content: bytes) -> bytes:
    whole = tarred(content) if ".tar" in name else content
    return PACKING[next((packing for packing in (".gz", ".zst") if name.endswith(packing)), "")](whole)


def read(path: Path, reading: Reading) -> tuple[list[str] | None, Ledger]:
    """The texts, or None where the reader stopped with file and line; a reader does nothing else."""
    ledger = Ledger()
    try:
        found = [document.text for document in documents(Source(path), reading, ledger)]
    except CorpusError as error:
        stopped = f"{error}"
    else:
        stopped = ""
    if stopped:
        assert re.search(rf"{re.escape(path.name)}(/in\.ndjson)?:\d+ ", stopped), stopped
        return None, ledger
    assert all(text == text.strip() and text and text.encode() for text in found)
    assert ledger.read == len(found) + ledger.without_text + ledger.about_minors
    return found, ledger


@pytest.mark.parametrize("name", [*NAMES, *TARS])
@quickly
@given(content=contents, as_it_is=st.booleans(), forum=st.booleans(), skip=st.sampled_from([0, 10**6]))
def test_any_bytes_are_read_or_named(
    name: str, content: bytes, as_it_is: bool, forum: bool, skip: int, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content if as_it_is else packed(name, content))
    for document in ("thread", "post"):
        read(tmp_path / name, Reading(document, skip, forum))


@pytest.mark.parametrize("name", [name for name in (*NAMES, *TARS) if name.endswith((".gz", ".zst")) or "tar" in name])
@quickly
@given(data=st.data())
def test_a_packed_file_cut_short_or_changed_is_never_a_shorter_one(
    name: str, data: st.DataObject, tmp_path: Path
) -> None:
    """Packed with checksums, as `gzip` and `zstd` do."""
    header = {"csv": "text\n"}.get(name.split(".")[1], "")
    row = "{}\n" if header or "txt" in name else '{{"text": "{}"}}\n'
    content = (header + "".join(row.format(f"{k * k}") for k in range(50))).encode()
    checked = zstandard.ZstdCompressor(write_checksum=True).compress
    whole = checked(tarred(content) if ".tar" in name else content) if name.endswith(".zst") else packed(name, content)
    (tmp_path / name).write_bytes(whole)
    expected, _ = read(tmp_path / name, Reading())
    end = len(whole) if not name.endswith(".tar") else 512 + len(content)  # behind it a plain tar has only zeros
    at = data.draw(st.integers(0, end - 1))
    (tmp_path / name).write_bytes(whole[:at])
    assert read(tmp_path / name, Reading(skip_damaged=10**6))[0] is None
    if not name.endswith(".tar"):  # a plain tar has checksums for its headers alone
        (tmp_path / name).write_bytes(
            whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
        )
        assert read(tmp_path / name, Reading())[0] in (None, expected)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.tar.zst"])
@quickly
@given(rows=st.lists(st.one_of(texts, st.sampled_from([b"{", b"\xff", b'{"text": 1}', b"3", b'{"text": "\\udc00"}']))))
def test_every_row_is_a_document_or_counted_or_listed(name: str, rows: list[str | bytes], tmp_path: Path) -> None:
    content = b"".join((row if isinstance(row, bytes) else json.dumps({"text": row}).encode()) + b"\n" for row in rows)
    (tmp_path / name).write_bytes(packed(name, content))
    found, ledger = read(tmp_path / name, Reading(skip_damaged=len(rows)))
    assert found == [row.strip() for row in rows if isinstance(row, str) and row.strip()]
    damaged = [number for number, row in enumerate(rows, start=1) if isinstance(row, bytes)]
    assert [int(entry.split(":")[1].split()[0]) for entry in ledger.damaged] == damaged


@quickly
@given(rows=st.lists(texts, min_size=1), extra=texts)
def test_every_cell_of_a_column_is_a_document_or_counted(rows: list[str], extra: str, tmp_path: Path) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["id", "text"], *([extra, row] for row in rows)])
    (tmp_path / "a.csv").write_bytes(buffer.getvalue().encode())
    found, ledger = read(tmp_path / "a.csv", Reading())
    assert found == [row.strip() for row in rows if row.strip()]
    assert ledger.read == len(rows)


@quickly
@given(rows=st.lists(texts))
def test_every_line_of_plain_text_is_in_a_document(rows: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\n".join(rows).encode())
    found, _ = read(tmp_path / "a.txt", Reading())
    assert found is not None
    assert "".join("".join(found).split()) == "".join("".join(rows).removeprefix("\ufeff").split())


posts = st.lists(st.one_of(st.none(), texts.map(lambda text: html.escape(text).replace("\n", "<br>"))), max_size=6)


@quickly
@given(threads=st.lists(posts, max_size=5), document=st.sampled_from(["thread", "post"]))
def test_every_post_is_in_a_document_or_counted(threads: list[list[str | None]], document: Any, tmp_path: Path) -> None:
    rows = [{"posts": [{} if post is None else {"com": post} for post in thread]} for thread in threads]
    (tmp_path / "a.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, ledger = read(tmp_path / "a.ndjson", Reading(document))
    cleaned = [[clean_post(post or "") for post in thread] for thread in threads]
    kept = [[post for post in thread if post and not about_minors(post)] for thread in cleaned]
    expected = ["\n\n".join(thread) for thread in kept if thread] if document == "thread" else list(chain(*kept))
    assert found == expected
    assert (
        ledger.posts
        == sum(map(len, threads))
        == sum(map(len, kept)) + ledger.posts_without_text + ledger.posts_about_minors
    )


marked = st.lists(st.one_of(texts, st.sampled_from(["<b>", "&lt;", "</a>", ">>1", "\n", "&amp;"]))).map("".join)


@quickly
@given(text=marked)
def test_cleaning_undoes_what_4chan_does_to_a_text(text: str) -> None:
    """Bare links to other posts apart, which have no words."""
    shown = clean_post(html.escape(text).replace("\r", "").replace("\n", "<wbr><br>"))
    assert shown == re.sub(r"^>>\d+[ \t]*$", "", text.replace("\r", ""), flags=re.MULTILINE).strip()


@quickly
@given(rows=st.lists(st.one_of(texts, st.sampled_from(["a@example.org", "A tide!", "a tide"]))), masking=st.booleans())
def test_every_document_meets_one_fate(rows: list[str], masking: bool, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    (tmp_path / "probe.txt").write_text("a tide")
    preparation = Preparation(deduplicate=True, exclude=(tmp_path / "probe.txt",), mask_personal=masking)
    kept = list(prepared(Source(tmp_path / "a.jsonl"), preparation, True, set(), ledger := Ledger()))
    assert ledger.read == len(rows) == sum(getattr(ledger, fate) for fate in FATES)
    assert ledger.kept == len(kept) == len({document.text for document in kept})


@pytest.mark.parametrize(
    "piece",
    [
        "<a ",
        "<a>&gt;&gt;",
        "<br ",
        "<",
        "&#",
        "&",
        ">>1 ",
        "a@",
        "@",
        "1.",
        "1-",
        "+1 ",
        "(555) ",
        "::",
        "ab:",
        "x@a.",
        "1",
    ],
)
def test_no_text_takes_more_than_linear_time(piece: str) -> None:
    """The worst pieces, many times: a pattern that looks through the rest at each of them takes minutes."""
    text = piece * (2**18 // len(piece))
    begun = time.process_time()
    for work in (clean_post, words_of, about_minors, lambda text: masked(text, Ledger())):
        with contextlib.suppress(ValueError):  # a character reference of thousands of digits, which readers report
            work(text)
    assert time.process_time() - begun < 5
