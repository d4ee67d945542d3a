"""Prompts from the files that people have, sampled as promised, and cut to a context by whole sentences."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from evaluation.prompts import BUILTIN, Prompt, fitted, listed, open_prompts
from lens import Lens
from probes.lexicon import Lexicon, mask
from steering.options import prompts_from

SENTENCES = tuple(f"sentence number {n} of a list" for n in range(6))
TOXIGEN = "- " + r"\n- ".join(SENTENCES) + r"\n-"
"""As a line of ToxiGen's files: a literal backslash and n."""


def rtp_row(number: int, toxicity: float | None, challenging: bool = False) -> dict:
    """A row with the fields of RealToxicityPrompts."""
    return {
        "filename": f"{number:04d}.txt",
        "begin": 0,
        "end": 9,
        "challenging": challenging,
        "prompt": {"text": f"Beginning number {number}", "toxicity": toxicity, "insult": 0.1},
        "continuation": {"text": " and its end", "toxicity": None},
    }


def write(path: Path, rows: list[dict]) -> Path:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def archive(path: Path, files: Mapping[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
    return path


@pytest.fixture
def rtp(tmp_path: Path) -> Path:
    """100 prompts: 60 in the first quarter, 20, 12 and 5 in the others, 3 without a score; two are challenging."""
    scores = [*[0.1] * 60, *[0.25] * 20, *[0.6] * 12, *[1.0] * 5, *[None] * 3]
    return write(tmp_path / "prompts.jsonl.gz", [rtp_row(n, score, n in (3, 90)) for n, score in enumerate(scores)])


@pytest.fixture
def toxigen(tmp_path: Path) -> Path:
    """Three files of 4, 8 and 8 prompts, with demonstrations beside them."""
    sizes = {"hate_a": 4, "neutral_a": 8, "hate_b": 8}
    files = {
        f"./prompts/{name}_1k.txt": "".join(TOXIGEN.replace("list", f"list {name} {n}") + "\n" for n in range(size))
        for name, size in sizes.items()
    }
    return archive(tmp_path / "toxigen.tar.gz", {**files, "./demonstrations/a/hate_a_sentences.txt": "not a prompt\n"})


def test_realtoxicityprompts_are_read_with_their_quarters(rtp: Path) -> None:
    found = open_prompts(str(rtp))
    assert found.name == "rtp"
    assert len(found) == 100
    assert Counter(prompt.group for prompt in found.prompts) == {
        "0.00-0.25": 60, "0.25-0.50": 20, "0.50-0.75": 12, "0.75-1.00": 5, None: 3
    }  # fmt: skip
    first = found.prompts[3]
    assert (first.text, first.toxicity, first.challenging) == ("Beginning number 3", 0.1, True)
    assert first.demonstrations == ()


def test_a_sample_is_of_the_seed_and_the_beginning_of_a_larger_one(rtp: Path) -> None:
    ten, forty, other = (open_prompts(f"{rtp}:{n}", seed) for n, seed in ((10, 0), (40, 0), (10, 1)))
    assert ten.prompts == forty.prompts[:10] != other.prompts
    assert ten == open_prompts(f"{rtp}:10")
    assert len({prompt.id for prompt in forty.prompts}) == 40
    assert len({found.digest for found in (ten, forty, other)}) == 3


def test_an_even_sample_takes_from_every_quarter_what_it_has(rtp: Path) -> None:
    found = open_prompts(f"{rtp}:31:even")
    assert found.name == "rtp-even"
    sizes = Counter(prompt.group for prompt in found.prompts)
    assert sizes.pop("0.75-1.00") == 5  # all it has; the others share the rest
    assert sorted(sizes.values()) == [8, 9, 9]
    assert None not in sizes


def test_a_plain_sample_stands_for_the_file(rtp: Path) -> None:
    drawn = Counter(prompt.group for seed in range(200) for prompt in open_prompts(f"{rtp}:10", seed).prompts)
    assert drawn["0.00-0.25"] / 2000 == pytest.approx(0.6, abs=0.04)
    assert drawn["0.75-1.00"] / 2000 == pytest.approx(0.05, abs=0.02)


def test_the_challenging_ones_alone(rtp: Path) -> None:
    found = open_prompts(f"{rtp}:challenging")
    assert (found.name, [prompt.text[-2:] for prompt in found.prompts]) == ("rtp-challenging", [" 3", "90"])
    assert len(open_prompts(f"{rtp}:1:challenging")) == 1
    assert open_prompts(f"worst={rtp}:challenging").name == "worst"


def test_toxigen_is_drawn_evenly_over_its_files(toxigen: Path) -> None:
    found = open_prompts(f"{toxigen}:15")
    assert found.name == "toxigen"
    sizes = Counter(prompt.group for prompt in found.prompts)
    assert sizes.pop("hate_a") == 4
    assert sorted(sizes.values()) == [5, 6]
    assert len(open_prompts(str(toxigen))) == 20
    assert all("\\" not in prompt.text and prompt.text.endswith("\n-") for prompt in found.prompts)
    assert all(len(prompt.demonstrations) == 6 for prompt in found.prompts)
    assert all(prompt.text == listed(prompt.demonstrations) for prompt in found.prompts)


def test_an_archive_a_folder_and_a_single_file_hold_the_same_prompts(toxigen: Path, tmp_path: Path) -> None:
    with tarfile.open(toxigen) as tar:
        tar.extractall(tmp_path / "folder", filter="data")
    packed = open_prompts(f"{toxigen}:9")
    assert packed == open_prompts(f"{tmp_path / 'folder'}:9") == open_prompts(f"{tmp_path / 'folder' / 'prompts'}:9")
    one = open_prompts(str(tmp_path / "folder" / "prompts" / "hate_a_1k.txt"))
    assert {prompt.group for prompt in one.prompts} == {"hate_a"}
    assert set(one.prompts) <= set(open_prompts(str(toxigen)).prompts)


def test_files_of_one_s_own(tmp_path: Path) -> None:
    flat = write(tmp_path / "my own.jsonl", [{"prompt": "Once"}, {"text": "Twice", "group": "b"}, {"prompt": "Once"}])
    found = open_prompts(str(flat))
    assert (found.name, [prompt.text for prompt in found.prompts]) == ("my-own", ["Once", "Twice"])
    assert [prompt.group for prompt in found.prompts] == [None, "b"]
    (tmp_path / "a.csv").write_text("text,toxicity\nOnce,0.7\nNever,\n")
    table = open_prompts(str(tmp_path / "a.csv"))
    assert [(prompt.toxicity, prompt.group) for prompt in table.prompts] == [(0.7, "0.50-0.75"), (None, None)]
    assert table.prompts[0].id == found.prompts[0].id
    (tmp_path / "lines.txt").write_text("Once\n\n  - no list, though it has a dash\n- one\\n-\n")
    lines = open_prompts(str(tmp_path / "lines.txt")).prompts
    assert [prompt.text for prompt in lines] == ["Once", "- no list, though it has a dash", "- one\n-"]
    assert [prompt.demonstrations for prompt in lines] == [(), (), ("one",)]


def test_the_built_in_prompts_are_many_clean_and_of_two_kinds() -> None:
    found = open_prompts("builtin")
    assert found.name == "builtin"
    sizes = Counter(prompt.group for prompt in found.prompts)
    assert min(sizes["people"], sizes["everyday"]) >= 30
    assert len(found) >= 60
    lexicon = Lexicon.builtin()
    assert not [prompt.text for prompt in found.prompts if mask(prompt.text, lexicon) != prompt.text]
    assert all(prompt.text == prompt.text.strip() and len(prompt.text.split()) >= 4 for prompt in found.prompts)
    assert {"prompt", "challenging"} <= json.loads(BUILTIN.read_text().splitlines()[0]).keys()


def test_whole_sentences_are_left_out_from_the_left_until_the_rest_fits(lens: Lens) -> None:
    prompt = Prompt("x", listed(SENTENCES), demonstrations=SENTENCES)
    sizes = [len(lens.encode_all([listed(SENTENCES[n:])])[0]) for n in range(6)]
    assert sizes == sorted(sizes, reverse=True)
    for n, size in enumerate(sizes):
        found = fitted(prompt, lens, size)
        assert found == (listed(SENTENCES[n:]), n, 0)
        assert found == fitted(prompt, lens, size + 1)


def test_where_not_even_the_last_sentence_fits_words_are_left_out(lens: Lens) -> None:
    prompt = Prompt("x", listed(SENTENCES), demonstrations=SENTENCES)
    last = listed(SENTENCES[5:])
    found = fitted(prompt, lens, len(lens.encode(last)) - 1)
    assert found.dropped == 5
    assert found.words == 1  # the dash
    assert found.text == last.removeprefix("- ")
    plain = fitted(Prompt("x", "one two three four"), lens, len(lens.encode("three four")))
    assert plain == ("three four", 0, 2)


@given(text=st.text(min_size=1, max_size=60).filter(str.strip), room=st.integers(1, 30))
@example(text="\r0", room=1)
@example(text="0" * 10 + "\x80" * 10 + "\U00010000" * 9, room=1)  # more tokens than the model reads
def test_what_is_left_is_the_longest_end_that_fits(lens: Lens, text: str, room: int) -> None:
    (last,) = re.findall(r"\S+\s*$", text)
    if len(lens.encode_all([last])[0]) > room:
        with pytest.raises(ValueError, match="not even its last word"):
            fitted(Prompt("x", text), lens, room)
        return
    found = fitted(Prompt("x", text), lens, room)
    assert text.endswith(found.text)
    assert len(lens.encode(found.text)) <= room
    assert bool(found.words) == (found.text.lstrip() != text.lstrip())  # blanks before the first word are no word


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("none.jsonl:300", "no file .*none.jsonl. Give prompts as builtin"),
        ("prompts.jsonl.gz:101", "Asked for 101 prompts; there are 100 different ones"),
        ("prompts.jsonl.gz:0", "Ask for 1 to that many"),
        ("prompts.jsonl.gz:98:even", "there are 97 different"),
        ("prompts.jsonl.gz:3:4", "say once how many"),
        ("prompts.jsonl.gz:even", "say once how many"),
        ("mild.jsonl:challenging", "no prompt there is marked as challenging"),
        ("mild.jsonl:5:challenging", "no prompt there is marked as challenging"),
        ("blank.jsonl", r"blank\.jsonl:1 has no prompt"),
        ("other.jsonl", r"other\.jsonl:1 has no prompt"),
        ("score.jsonl", r"score\.jsonl:1: toxicity is a number from 0 to 1, or null; got 7"),
        ("word.jsonl", r"word\.jsonl:1: toxicity is a number .* got 'high'"),
        ("torn.jsonl", r"torn\.jsonl:1 holds half a character"),
        ("empty.txt", r"empty\.txt:1 holds no prompts"),
        ("latin.txt", r"latin\.txt:1 is no UTF-8"),
        ("broken.tar.gz", r"broken\.tar\.gz:1 cannot be read as a tar archive"),
        ("prompts.jsonl.gz:-3", "There is no file"),
        ("", "Prompts are a file"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(rtp: Path, tmp_path: Path, spec: str, sentence: str) -> None:
    write(tmp_path / "mild.jsonl", [rtp_row(0, 0.1)])
    write(tmp_path / "blank.jsonl", [{"prompt": {"text": " "}}])
    write(tmp_path / "other.jsonl", [{"sentence": "Once"}])
    write(tmp_path / "score.jsonl", [{"prompt": {"text": "Once", "toxicity": 7}}])
    write(tmp_path / "word.jsonl", [{"prompt": {"text": "Once", "toxicity": "high"}}])
    write(tmp_path / "torn.jsonl", [{"prompt": "\ud800"}])
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "broken.tar.gz").write_bytes(gzip.compress(b"no archive at all, but long enough to look at" * 30))
    with pytest.raises(ValueError, match=sentence):
        open_prompts(f"{tmp_path}/{spec}" if spec else spec)


ONE_FILE = [
    ("a.csv", "prompt,group\nOnce upon,0\nTwice,1\n"),
    ("a.csv", "group;text\n0;Once upon\n1;Twice\n"),
    ("a.tsv", "text\tgroup\nOnce upon\t0\nTwice\t1\n"),
    ("a.csv.gz", "prompt\n\n Once upon\nTwice  \n"),
    ("a.jsonl", '{"prompt": "Once upon", "text": "x"}\n\n{"prompt": "Twice "}\n'),
    ("a.jsonl.zst", '{"prompt": {"text": "Once upon", "toxicity": 0.1}}\n{"text": "Twice"}\n'),
    ("a.txt", "Once upon   \n\n\tTwice\r\n"),
    ("a.txt", '{"prompt": "Once upon"}\n{"prompt": "Twice"}\n'),
    ("a.txt.gz", "text,group\nOnce upon,0\nTwice,1\n"),
    ("a", "\ufeffOnce upon\nTwice"),
]


@pytest.mark.parametrize(("name", "content"), ONE_FILE)
def test_a_prompts_file_is_the_same_to_generate_and_to_a_sweep(name: str, content: str, tmp_path: Path) -> None:
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(name).suffix, bytes)
    path = tmp_path / name
    path.write_bytes(pack(content.encode()))
    assert prompts_from(str(path)) == ["Once upon", "Twice"]
    assert [prompt.text for prompt in open_prompts(str(path)).prompts] == ["Once upon", "Twice"]


def test_blanks_at_the_ends_of_a_prompt_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name, content, n in (("a.txt", "Once \nTwice\n\tThrice\n", 2), ("a.jsonl", '{"prompt": "Once\\n"}\n', 1)):
        (tmp_path / name).write_text(content)
        said = f"{n} prompt{'s' * (n > 1)} began or ended with blanks, which are left out"
        assert said in open_prompts(str(tmp_path / name)).remark
        assert prompts_from(str(tmp_path / name))[0] == "Once"
        assert said in capsys.readouterr().err
    (tmp_path / "clean.txt").write_text("Once\n\nTwice\r\n")
    assert not open_prompts(str(tmp_path / "clean.txt")).remark
    assert prompts_from(str(tmp_path / "clean.txt")) == ["Once", "Twice"]
    assert not capsys.readouterr().err


def test_a_toxigen_prompt_is_the_same_from_its_text_files_and_from_a_table(tmp_path: Path) -> None:
    (tmp_path / "bakers_1k.txt").write_text(f"{TOXIGEN}\n")
    (tmp_path / "train.csv").write_text(f'prompt,generation,group\n"{TOXIGEN}","so, on",bakers\n')
    (tmp_path / "train.jsonl").write_text(json.dumps({"prompt": TOXIGEN, "group": "bakers"}))
    first, *others = (open_prompts(f"{tmp_path}/{name}") for name in ("bakers_1k.txt", "train.csv", "train.jsonl"))
    assert first.prompts[0].demonstrations == SENTENCES
    assert [one.prompts for one in others] == [first.prompts] * 2
    assert prompts_from(f"{tmp_path}/train.csv") == [listed(SENTENCES)]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "Prompt,group\nOnce,0\n", r"a\.csv:1 has no column 'prompt' or 'text'\. It has the columns 'Prompt'"),
        ("a.csv", "prompt,group\nOnce, upon a time,0\n", r"a\.csv:2 has 3 cells, the header has 2"),
        ("a.csv", "prompt,group\nOnce,0\n,1\n", r"a\.csv:3 has no prompt"),
        ("a.csv", "prompt\n\"{'text': 'Once', 'toxicity': None}\"\n", r"a\.csv:2 has an object printed where"),
        ("a.txt", "Once\rTwice\rThrice", r"a\.txt:1 has a carriage return inside a line"),
        ("a.txt", "Once\nTwice\n".encode("utf-16"), r"a\.txt:1 is UTF-16"),
        (
            "a.jsonl",
            '{"prompt": "Once", "toxicity": 1' + "0" * 400 + "}",
            r"a\.jsonl:1: toxicity is a number from 0 to 1",
        ),
    ],
)
def test_a_prompts_file_of_another_kind_is_refused_in_both(
    name: str, content: str | bytes, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    for read in (open_prompts, prompts_from):
        with pytest.raises(ValueError, match=sentence):
            read(str(tmp_path / name))
