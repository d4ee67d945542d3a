"""Readers: every format in its real shape, scores and all, and damage named by file and line."""

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from training.corpus import CorpusError, Document, Ledger, Reading, Source, documents, sources
from training.forum import clean_post

POSTS: list[dict[str, Any]] = [
    {"no": 1, "resto": 0, "com": "first<br>line", "perspectives": {"TOXICITY": 0.2, "SPAM": 0.9}},
    {"no": 2, "com": '<a href="#p1" class="quotelink">&gt;&gt;1</a><br>&gt;a green line', "perspectives": {}},
    {"no": 3, "filename": "picture"},
    {"no": 4, "com": "fourth", "perspectives": {"TOXICITY": 0.7}},
]


def packed(name: str, data: bytes) -> bytes:
    return gzip.compress(data) if name.endswith(".gz") else zstandard.compress(data) if name.endswith(".zst") else data


def written(path: Path, text: str | bytes) -> Source:
    path.write_bytes(packed(path.name, text.encode() if isinstance(text, str) else text))
    return Source.parse(str(path))


def texts(source: Source, reading: Reading = Reading(), ledger: Ledger | None = None) -> list[str]:  # noqa: B008
    return [document.text for document in documents(source, reading, ledger)]


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def tarred(members: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "c4-train.00000-of-01024.json.gz", "a.ndjson.zst"])
def test_json_lines_are_read_packed_or_not(name: str, tmp_path: Path) -> None:
    source = written(tmp_path / name, '{"text": " one\\u2028two "}\n\n{"text": ""}\n{"text": "three"}\n')
    assert texts(source, ledger=(ledger := Ledger())) == ["one\u2028two", "three"]
    assert (ledger.read, ledger.without_text) == (3, 1)


def test_a_document_can_be_several_fields_also_of_nested_objects(tmp_path: Path) -> None:
    written(tmp_path / "c4.jsonl", lines({"prefix": "The tide", "gold": " turns.", "in": {"side": "!"}}))
    assert texts(Source.parse(f"{tmp_path}/c4.jsonl#prefix+gold")) == ["The tide turns."]
    assert texts(Source.parse(f"{tmp_path}/c4.jsonl#prefix+in.side")) == ["The tide!"]
    [named] = sources([f"{tmp_path}/c4.jsonl"], text_field="prefix+gold")
    assert texts(named) == ["The tide turns."]


def test_a_column_of_any_csv_is_a_text(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", '\ufefftext,id,tweet\r\n"one, ""two""\nthree",1,x\r\n\r\n,2,y\r\n')
    assert texts(Source.parse(f"{tmp_path}/a.csv"), ledger=(ledger := Ledger())) == ['one, "two"\nthree']
    assert ledger.without_text == 1
    assert texts(Source.parse(f"{tmp_path}/a.csv#tweet")) == ["x", "y"]


def test_an_empty_line_ends_a_document_of_plain_text(tmp_path: Path) -> None:
    assert texts(written(tmp_path / "a.txt", "one\ntwo\n\n \n\nthree")) == ["one\ntwo", "three"]


def test_a_thread_is_one_document_from_csv_and_from_ndjson(tmp_path: Path) -> None:
    buffer = io.StringIO()
    rows = csv.writer(buffer)
    rows.writerows([["", "comment", "thread"], *(["7", post.get("com", ""), "t1"] for post in POSTS), ["8", "b", "t2"]])
    crawl = written(tmp_path / "crawl.csv", buffer.getvalue())
    archive = written(tmp_path / "pol.ndjson", lines({"posts": POSTS}, {"posts": [{"com": "b"}]}))
    expected = ["first\nline\n\n>a green line\n\nfourth", "b"]
    for source in (crawl, archive):
        assert texts(source, ledger=(ledger := Ledger())) == expected
        assert (ledger.read, ledger.posts, ledger.posts_without_text) == (2, 5, 1)
        assert texts(source, Reading("post")) == ["first\nline", ">a green line", "fourth", "b"]


def test_scores_of_the_archive_are_kept_for_posts_and_averaged_by_length_for_threads(tmp_path: Path) -> None:
    source = written(tmp_path / "pol.ndjson", lines({"posts": POSTS}))
    assert [post.toxicity for post in documents(source, Reading("post"))] == [0.2, None, 0.7]
    [thread] = documents(source)
    assert thread.toxicity == pytest.approx((0.2 * len("first\nline") + 0.7 * len("fourth")) / 16)
    unscored = written(tmp_path / "wrong_key.ndjson", lines({"posts": [{"com": "a", "perspective": {"TOXICITY": 1}}]}))
    assert [thread.toxicity for thread in documents(unscored)] == [None]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("name", ["pol.tar.zst", "pol.tar.gz", "pol.tar"])
def test_the_published_archive_is_read_as_it_comes(name: str, format: int, tmp_path: Path) -> None:
    inside = {"readme.txt": b"no threads", "data/pol_062016-112019_labeled.ndjson": lines({"posts": POSTS}).encode()}
    [thread] = documents(written(tmp_path / name, tarred(inside, format)))
    assert thread.text.endswith("fourth")
    nothing = written(tmp_path / f"empty-{name}", tarred({"readme.txt": b"no threads"}, format))
    with pytest.raises(CorpusError, match="holds no file of JSON lines"):
        list(documents(nothing))


def test_a_large_window_of_the_archive_is_accepted(tmp_path: Path) -> None:
    """The published archive needs 2 GiB, which a reader at its defaults refuses; the frame's header alone says so."""
    content = tarred({"a.ndjson": lines({"posts": POSTS}).encode()})
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    pack = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # of unknown size: the window is said
    (tmp_path / "pol.tar.zst").write_bytes(pack.compress(content) + pack.flush())
    with pytest.raises(zstandard.ZstdError):
        zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader((tmp_path / "pol.tar.zst").read_bytes()).read()
    assert len(texts(Source(tmp_path / "pol.tar.zst"))) == 1


def test_a_tar_with_a_damaged_second_header_is_no_short_tar(tmp_path: Path) -> None:
    first, second = (lines({"posts": [{"com": word}]}).encode() for word in ("one", "two"))
    whole = tarred({"a.ndjson": first, "b.ndjson": second}, tarfile.USTAR_FORMAT)
    assert texts(written(tmp_path / "whole.tar", whole)) == ["one", "two"]
    for damaged in (whole[:1024] + b"x" + whole[1025:], whole[:1024], whole[:1700], whole[:700], whole + whole):
        with pytest.raises(CorpusError, match=r"damaged.tar(/[ab].ndjson)?:1 "):
            texts(written(tmp_path / "damaged.tar", damaged))


def test_documents_of_ai2s_4chan_threads_are_threads(tmp_path: Path) -> None:
    row = {"text": "first\n\n>>1\nsecond\n\n\n\nthird", "metadata": {"original_ids": [1, 2, 3]}, "source": "4chan"}
    source = written(tmp_path / "4chan_val.jsonl", lines(row))
    assert texts(source, Reading("post")) == ["first", "second", "third"]
    assert texts(source) == ["first\n\nsecond\n\nthird"]


def test_cleaning_keeps_what_only_looks_like_a_tag() -> None:
    """Undoing entities before stripping tags would eat `<b>` here, and `<wbr>` would split the address."""
    assert clean_post("see exa<wbr>mple.org &lt;b&gt; 1 &lt; 2 &amp; 3") == "see example.org <b> 1 < 2 & 3"
    assert clean_post('<span class="quote">&gt;green</span><br><s>gone</s> &#039;') == ">green\ngone '"
    assert clean_post('<span class="deadlink">&gt;&gt;12</span><br><a href="/x">&gt;&gt;&gt;/x/</a>reply') == "reply"


def test_what_speaks_sexually_of_minors_is_dropped_from_every_forum_format(tmp_path: Path) -> None:
    bad, good = "the child was seen naked", "the child was seen sailing"
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["com", "thread"], [good, "1"], [bad, "1"], [bad, "2"]])
    dolma = [{"text": text, "metadata": {"original_ids": []}} for text in (f"{good}\n\n{bad}", bad)]
    for name, content in {
        "crawl.csv": buffer.getvalue(),
        "pol.ndjson": lines({"posts": [{"com": good}, {"com": bad}]}, {"posts": [{"com": bad}]}),
        "dolma.jsonl": lines(*dolma),
    }.items():
        source = written(tmp_path / name, content)
        assert texts(source, ledger=(ledger := Ledger())) == [good]
        assert (ledger.posts_about_minors, ledger.about_minors) == (2, 1)
        assert texts(source, Reading("post")) == [good]
    tweets = written(tmp_path / "tweets.jsonl", lines({"text": bad}, {"text": good}))
    assert texts(tweets, Reading(forum=True)) == [good]
    assert texts(tweets) == [bad, good], "clean text is not forum text"


@pytest.mark.parametrize(
    ("name", "content", "line", "reason"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": \n', 2, "is not JSON"),
        ("a.jsonl", b'{"text": "half\n', 1, "is not JSON: Invalid control character at column 15"),
        ("a.jsonl", b'{"text": "fine"}\n{"body": "x"}\n', 2, "has no field 'text'"),
        ("a.jsonl", b'{"text": 3}\n', 1, "has int in the field 'text'"),
        ("a.jsonl", b'{"text": "fine"}\n["x"]\n', 2, "is no JSON object"),
        ("a.jsonl", b'{"text": "fine"}\n\xff\xfe\n', 2, "is no UTF-8"),
        ("a.jsonl", b'{"text": "half \\ud83d"}\n', 1, "surrogate"),
        ("a.jsonl", b"[" * 100_000, 1, "too many levels"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "fine"}\n' * 3)[:-12], 1, "cannot be read"),
        ("a.ndjson", b'{"posts": [{"com": 3}]}\n', 1, "is no text"),
        ("a.ndjson", b'{"posts": 3}\n', 1, "is no list"),
        ("a.ndjson", b'{"posts": [{"com": "a", "perspectives": {"TOXICITY": 7}}]}\n', 1, "TOXICITY"),
        ("a.ndjson", b'{"posts": [{"com": "a", "perspectives": {"TOXICITY": NaN}}]}\n', 1, "TOXICITY"),
        ("a.csv", b"comment,thread\na,1\nb\n", 3, "has 1 cell, the header has 2"),
        ("a.csv", b'comment,thread\na,1\n"b,1\nc,1\n', 3, "is no CSV"),
        ("a.csv", b"comment,thread\n&#" + b"9" * 5000 + b";,1\n", 2, ""),
        ("a.csv", b"body,id\na,1\n", 1, "has the columns 'body', 'id', separated by commas"),
    ],
)
def test_damage_stops_the_reader_with_file_line_and_reason(
    name: str, content: bytes, line: int, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=rf"{name}:{line} .*{reason}"):
        list(documents(Source(tmp_path / name)))


def test_damaged_lines_are_gone_past_as_often_as_allowed_and_listed(tmp_path: Path) -> None:
    source = written(tmp_path / "a.jsonl", b'{"text": "one"}\n{"text"\n\xff\n{"text": "two"}\n{"body": ""}\n')
    assert texts(source, Reading(skip_damaged=3), ledger := Ledger()) == ["one", "two"]
    assert [entry.split(" is ")[0].split(" has ")[0] for entry in ledger.damaged] == [
        "a.jsonl:2",
        "a.jsonl:3",
        "a.jsonl:5",
    ]
    assert str(tmp_path) not in str(ledger.as_dict())
    with pytest.raises(CorpusError, match=r"a\.jsonl:5 .*--skip-damaged 3"):
        list(documents(source, Reading(skip_damaged=2)))


def test_a_row_that_swallows_others_counts_as_many_lines(tmp_path: Path) -> None:
    """An open quotation mark takes the rest of a CSV with it; one tolerated line must not hide that."""
    source = written(tmp_path / "a.csv", 'text\none\n"two\nthree\nfour\n')
    with pytest.raises(CorpusError, match=r"a\.csv:3 .*--skip-damaged 3"):
        list(documents(source, Reading(skip_damaged=2)))
    assert texts(source, Reading(skip_damaged=3), ledger := Ledger()) == ["one"]
    assert ledger.damaged[0].endswith("(3 lines)")


def test_an_archive_cut_short_is_never_tolerated(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines(*[{"text": "fine"}] * 9).encode())[:-9])
    with pytest.raises(CorpusError, match="fetch it again"):
        list(documents(Source(tmp_path / "a.jsonl.gz"), Reading(skip_damaged=99)))


def test_a_folder_is_its_known_files_without_c4s_held_out_shards(tmp_path: Path) -> None:
    names = [
        "c4-train.00001-of-01024.json.gz",
        "c4-train.00000-of-01024.json.gz",
        "c4-validation.00000-of-00008.json.gz",
    ]
    for name in names:
        written(tmp_path / name, lines({"text": name}))
    (tmp_path / "README.md").write_text("not text to train on")
    assert [source.path.name for source in sources([str(tmp_path)])] == sorted(names)[:2]
    assert texts(sources([f"{tmp_path}/{names[2]}"])[0]) == [names[2]]


def test_sources_that_cannot_be_read_are_refused_before_anything_starts(tmp_path: Path) -> None:
    written(tmp_path / "clean.jsonl", "")
    (tmp_path / "none").mkdir()
    (tmp_path / "a.parquet").write_bytes(b"")
    (tmp_path / "a.txt").write_bytes(b"")
    for text, reason in {
        f"{tmp_path}/claen.jsonl": r"Did you mean .*clean\.jsonl\?",
        f"{tmp_path}/a.parquet": "no known format",
        f"{tmp_path}/a.txt#body": "has no field body",
        f"{tmp_path}/none": "holds no file of a known format",
        "hub:": "Write hub:NAME:CONFIG:SPLIT",
        "hub:a:b:c:d": "Write hub:NAME:CONFIG:SPLIT",
    }.items():
        with pytest.raises(CorpusError, match=reason):
            sources([text])
    with pytest.raises(CorpusError, match="given twice"):
        sources([f"{tmp_path}/clean.jsonl", str(tmp_path / "clean.jsonl")])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out like C4 on the hub, which `datasets` opens and streams as it would the hub's own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shards = tmp_path / "c4" / "en"
    shards.mkdir(parents=True)
    configs = "configs:\n- config_name: en\n  data_files:\n  - split: train\n    path: en/c4-train.*.json.gz\n"
    held_out = "  - split: validation\n    path: en/c4-validation.*.json.gz\n"
    (tmp_path / "c4" / "README.md").write_text(f"---\n{configs}{held_out}---\n")
    for number, words in enumerate(("one two", "three")):
        rows = [{"text": word, "timestamp": "2019-04-25T12:57:54Z", "url": "x"} for word in words.split()]
        (shards / f"c4-train.{number:05}-of-01024.json.gz").write_bytes(gzip.compress(lines(*rows).encode()))
    (shards / "c4-validation.00000-of-00008.json.gz").write_bytes(gzip.compress(lines({"text": "four"}).encode()))
    return tmp_path / "c4"


def test_a_data_set_is_streamed_from_the_hub_in_order_split_by_split(hub: Path) -> None:
    [train] = sources([f"hub:{hub}:en:train"])
    shards = sources([str(hub / "en")])
    [held_out] = sources([f"hub:{hub}:en:validation#text"])
    assert texts(train) == ["one", "two", "three"] == [text for shard in shards for text in texts(shard)]
    assert list(documents(held_out)) == [Document("four")]
    assert train.digest() == sources([f"hub:{hub}:en"])[0].digest() != held_out.digest()
    assert str(train) == f"hub:{hub}:en:train"
    with pytest.raises(CorpusError, match=r":en:train:1 has no field 'body'"):
        list(documents(Source.parse(f"hub:{hub}:en:train#body")))


def test_a_data_set_that_breaks_off_is_named_with_its_row(hub: Path) -> None:
    with pytest.raises(CorpusError, match=r"cannot be opened: .* Check name, .* from a folder"):
        Source.parse(f"hub:{hub}:de").digest()
    (shard := hub / "en" / "c4-train.00001-of-01024.json.gz").write_bytes(gzip.compress(b'{"text": "three"}\n{"te'))
    for wrong, reason in {f"hub:{hub}:de": "cannot be opened", f"hub:{hub}:en": r"train:3 cannot be read"}.items():
        with pytest.raises(CorpusError, match=reason):
            list(documents(Source.parse(wrong)))
    shard.unlink()
    assert texts(Source.parse(f"hub:{hub}:en")) == ["one", "two"]
