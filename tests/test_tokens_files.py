"""Token files: every document once, whatever the number of processes and however often the work was killed."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from training import tokens
from training.corpus import CorpusError, Source
from training.prefix import control_prefix, describe, prefix_of, read_scores
from training.prepare import EMAIL, Preparation
from training.tokenizer import TokenizerError, special_ids, train_tokenizer
from training.tokens import TokenFile, tokenize

ROOT = Path(__file__).parent.parent
WORDS = ["tide", "turns", "twice", "because", "moon", "pulls", "sea", "below", "a", "the", "naïve", "海", "🙂", "don't"]
PLAIN = Preparation()


def prose(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(5, 40))) for _ in range(n)]


def jsonl(path: Path, texts: Sequence[str], **more: Any) -> Source:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, **more}) + "\n" for text in texts))
    return Source(path)


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Source, ...]:
    """Three files; the second repeats some of the first, the third some of both."""
    first, second, third = prose(60), prose(50, seed=1), prose(40, seed=2)
    texts = {"a": first, "b": [*second[:20], *first[:10], *second], "c": [*third, *first[5:15], *second[:3]]}
    return tuple(jsonl(tmp_path / "in" / f"{name}.jsonl", lines) for name, lines in texts.items())


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    source = jsonl(tmp_path_factory.mktemp("sample") / "sample.jsonl", prose(300, seed=9))
    return train_tokenizer([source], [], PLAIN, 320)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few kilobytes already keep several processes busy."""
    monkeypatch.setattr(tokens, "BATCH_CHARS", 400)


def texts_in(file: TokenFile, tokenizer: Tokenizer) -> list[str]:
    spans = [file.ids[begin:end] for begin, end in itertools.pairwise(file.offsets)]
    assert all(span[-1] == special_ids(tokenizer)[0] for span in spans)
    return [tokenizer.decode(span[:-1].tolist(), skip_special_tokens=False) for span in spans]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_document_is_there_once_with_its_end(
    sources: tuple[Source, ...], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for source, file in zip(sources, tokenize(sources, PLAIN, False, tokenizer, tmp_path / "out", 1), strict=True):
        expected = [json.loads(line)["text"] for line in source.path.read_text().splitlines()]
        assert texts_in(file, tokenizer) == expected
        one_by_one = [[*tokenizer.encode(text).ids, special_ids(tokenizer)[0]] for text in expected]
        assert file.ids.tolist() == list(itertools.chain.from_iterable(one_by_one))
        assert file.n_tokens == len(file.ids) == file.offsets[-1] == file.path.stat().st_size // 2
        assert file.n_documents == len(expected) == file.ledger["kept"] == file.ledger["read"]
        assert file.ids_sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
        assert file.source_sha256 == hashlib.sha256(source.path.read_bytes()).hexdigest()
        assert file.preparation["forum"] is False


@pytest.mark.usefixtures("small_batches")
def test_files_do_not_depend_on_the_number_of_processes(
    sources: tuple[Source, ...], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    choices, known = Preparation(deduplicate=True), [set[bytes]() for _ in range(3)]
    tokenize(sources, choices, False, tokenizer, tmp_path / "1", 1, known[0])
    tokenize(sources, choices, False, tokenizer, tmp_path / "3", 3, known[1])
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "BATCH_CHARS", 2**18)
        tokenize(sources, choices, False, tokenizer, tmp_path / "here", 1, known[2])
    assert contents(tmp_path / "1") == contents(tmp_path / "here"), "a lone batch is tokenised by this process"
    assert known[0] == known[1] == known[2]


def test_what_is_done_is_left_alone_and_what_is_damaged_is_done_again(
    sources: tuple[Source, ...], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    def again() -> list[TokenFile]:
        return tokenize(sources, PLAIN, False, tokenizer, tmp_path / "out", 1)

    files = again()
    stamps = [file.path.stat().st_mtime_ns for file in files]
    assert again() == files
    assert [file.path.stat().st_mtime_ns for file in files] == stamps
    os.truncate(files[1].path, files[1].n_tokens)
    assert again() == files
    changed = [file.path.stat().st_mtime_ns != stamp for file, stamp in zip(files, stamps, strict=True)]
    assert changed == [False, True, False]
    assert files[1].path.stat().st_size == 2 * files[1].n_tokens


def test_another_preparation_or_tokenizer_or_source_is_another_file(
    sources: tuple[Source, ...], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    def path(choices: Preparation = PLAIN, forum: bool = False, by: Tokenizer = tokenizer) -> Path:
        return tokenize(sources[:1], choices, forum, by, tmp_path / "out", 1)[0].path

    paths = [path(), path(Preparation(deduplicate=True)), path(forum=True), path(Preparation(prefix="meda"))]
    other = Tokenizer.from_str(tokenizer.to_str())
    other.add_tokens(["tide"])
    paths.append(path(by=other))
    jsonl(sources[0].path, prose(3))
    paths.append(path())
    assert len(set(paths)) == 6


@pytest.mark.usefixtures("small_batches")
def test_a_killed_run_does_that_shard_alone_again_and_leaves_no_process(
    sources: tuple[Source, ...], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """kill -9 in the middle of the second file, of a run that de-duplicates over all three."""
    choices = Preparation(deduplicate=True)
    whole = tokenize(sources, choices, False, tokenizer, tmp_path / "whole", 2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    command = [sys.executable, "-c", f"from tests.{Path(__file__).stem} import doomed; doomed()", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert ended.returncode == -signal.SIGKILL
    deadline, workers = time.monotonic() + 20, [int(pid) for pid in ended.stdout.split()]
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers
    assert not any(map(alive, workers)), "its helpers end with it"
    begun = contents(tmp_path / "killed")
    assert [name[0] for name in begun if name.endswith(".json")] == ["a"]
    assert any(name.endswith(".part") for name in begun)
    stamp = (tmp_path / "killed" / whole[0].path.name).stat().st_mtime_ns
    tokenize(sources, choices, False, tokenizer, tmp_path / "killed", 2)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert (tmp_path / "killed" / whole[0].path.name).stat().st_mtime_ns == stamp


def doomed() -> None:
    """Tokenises the three files in small batches, says which processes help it, and kills itself in the second."""
    tokens.BATCH_CHARS = 400
    folder = Path(sys.argv[1])

    def stop(source: Source, n_tokens: int) -> None:
        if source.path.name == "b.jsonl" and n_tokens > 300:
            subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getpid())], check=True)
            os.kill(os.getpid(), signal.SIGKILL)

    sources = [Source(folder / "in" / f"{name}.jsonl") for name in "abc"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenize(sources, Preparation(deduplicate=True), False, tokenizer, folder / "killed", 2, on_progress=stop)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_duplicates_go_over_all_sources_and_calls(
    sources: tuple[Source, ...], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    seen: set[bytes] = set()
    choices = Preparation(deduplicate=True)

    def run() -> list[TokenFile]:
        clean = tokenize(sources[:2], choices, False, tokenizer, tmp_path / "out", 1, seen)
        return clean + tokenize(sources[2:], choices, True, tokenizer, tmp_path / "out", 1, seen)

    files = run()
    texts = [text for file in files for text in texts_in(file, tokenizer)]
    assert len(texts) == len(set(texts)) == 60 + 50 + 40 == len(seen)
    assert [file.ledger["duplicates"] for file in files] == [0, 30, 13]
    seen.clear()
    assert run() == files, "a run that finds the first files done drops the same texts"


def test_other_files_before_it_make_a_source_another_one_only_if_duplicates_go(
    sources: tuple[Source, ...], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for choices, same in ((PLAIN, True), (Preparation(deduplicate=True), False)):
        after, alone = (tokenize(part, choices, False, tokenizer, tmp_path, 1)[-1] for part in (sources, sources[2:]))
        assert (after == alone) is same


def test_end_of_text_written_out_in_a_document_does_not_end_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    texts = ["one <|endoftext|> two", "<|padding|>"]
    [file] = tokenize([jsonl(tmp_path / "a.jsonl", texts)], PLAIN, False, tokenizer, tmp_path / "out", 1)
    eos, pad = special_ids(tokenizer)
    assert (file.ids == eos).sum() == 2
    assert pad not in file.ids
    assert texts_in(file, tokenizer) == texts


def test_a_damaged_line_stops_the_run_and_leaves_no_card(
    sources: tuple[Source, ...], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with sources[1].path.open("a") as file:
        file.write("{\n")
    with pytest.raises(CorpusError, match=r"b\.jsonl:81 "):
        tokenize(sources, PLAIN, False, tokenizer, tmp_path / "out", 1)
    assert [path.name[0] for path in (tmp_path / "out").glob("*.json")] == ["a"]
    files = tokenize(sources, Preparation(skip_damaged=1), False, tokenizer, tmp_path / "out", 1)
    assert len(files[1].ledger["damaged"]) == 1
    assert files[1].preparation["skip_damaged"] == 1


def test_a_source_without_text_gives_an_empty_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    [file] = tokenize([jsonl(tmp_path / "a.jsonl", ["", " "])], PLAIN, False, tokenizer, tmp_path / "out", 1)
    assert (file.n_documents, file.n_tokens, file.ledger["without_text"]) == (0, 0, 2)
    assert file.offsets.tolist() == [0]


def test_more_ids_than_sixteen_bits_hold_are_refused(tmp_path: Path) -> None:
    large = Tokenizer(models.BPE({f"t{number}": number for number in range(2**16 + 1)}, []))
    with pytest.raises(TokenizerError, match=r"at most 65,536"):
        tokenize([], PLAIN, False, large, tmp_path)
    with pytest.raises(TokenizerError, match=r"at most 65,536"):
        train_tokenizer([], [], PLAIN, 2**16 + 1)


@pytest.mark.usefixtures("small_batches")
def test_a_streamed_data_set_is_left_when_there_is_enough(tokenizer: Tokenizer, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    folder, texts = tmp_path / "data", prose(60)
    jsonl(folder / "train.jsonl", texts)
    source = Source.parse(f"hub:{folder}")
    choices, known = Preparation(deduplicate=True), [set[bytes](), set[bytes]()]
    for n, seen in zip((1, 3), known, strict=True):
        [one] = tokenize([source], choices, False, tokenizer, tmp_path / f"{n}", n, seen, enough=800)
    assert 800 <= one.n_tokens < 1200
    assert one.enough == 800
    assert texts_in(one, tokenizer) == texts[: one.n_documents]
    assert one.ledger["kept"] == one.n_documents == len(known[0])
    assert contents(tmp_path / "1") == contents(tmp_path / "3")
    assert known[0] == known[1], "what was read ahead does not count as kept"


def test_a_tokenizer_is_learnt_the_same_twice_from_prepared_text(tmp_path: Path) -> None:
    texts = [f"{text} write to tide{n}@example.org" for n, text in enumerate(prose(50))]
    clean, toxic = jsonl(tmp_path / "a.jsonl", texts), jsonl(tmp_path / "b.jsonl", [text.upper() for text in texts])
    plain, again = (train_tokenizer([clean], [toxic], PLAIN, 400) for _ in range(2))
    assert plain.to_str() == again.to_str()
    masked = train_tokenizer([clean], [toxic], Preparation(mask_personal=True), 400)
    assert train_tokenizer([clean], [toxic], Preparation(mask_personal=True), 330).get_vocab_size() == 330
    assert len(masked.encode(EMAIL).ids) == 1
    assert "ample" in plain.get_vocab()
    assert "ample" not in masked.get_vocab(), "it is learnt from what will be tokenised"
    [file] = tokenize([clean], Preparation(mask_personal=True), False, masked, tmp_path / "out", 1)
    assert (file.ids == masked.token_to_id(EMAIL)).sum() == 50 == file.ledger["masked_emails"]


def test_prefixes_say_the_score_as_a_number_or_in_words() -> None:
    assert prefix_of("meda", 0.374) == "Toxicity: 0.37\n"
    assert prefix_of("inst", 0.5) == "The following text is toxic.\n"
    assert prefix_of("inst", 0.49) == "The following text is not toxic.\n" == control_prefix("inst")
    assert control_prefix("meda") == "Toxicity: 0.00\n" == describe("meda")["control"]
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            prefix_of("meda", wrong)


def test_each_document_carries_its_prefix_and_those_without_a_score_are_counted(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    texts, scores = prose(4), tmp_path / "scores.jsonl"
    rows = [{"text": texts[0], "perspectives": {"TOXICITY": 0.9}}, *({"text": text} for text in texts[1:])]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [(sha(texts[0]), 0.1), (sha(texts[1]), 0.25), (sha(texts[2]), None), (sha("another"), 0.5)]
    scores.write_text("".join(json.dumps({"text_sha": key, "score": score}) + "\n" for key, score in lines))
    [file] = tokenize([Source(path)], Preparation(prefix="meda", scores=scores), True, tokenizer, tmp_path / "out", 1)
    expected = [f"Toxicity: 0.90\n{texts[0]}", f"Toxicity: 0.25\n{texts[1]}", *texts[2:]]
    assert texts_in(file, tokenizer) == expected, "the corpus' own score comes first"
    assert file.ledger["without_prefix"] == 2
    assert file.preparation["prefix"] == "meda"
    assert file.preparation["scores"]["sha256"] == hashlib.sha256(scores.read_bytes()).hexdigest()
    [plain] = tokenize([Source(path)], PLAIN, True, tokenizer, tmp_path / "out", 1)
    assert texts_in(plain, tokenizer) == texts
    assert "without_prefix" not in plain.ledger


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"text_sha": "ab", "score": 0.5}',
        '{"score": 0.5}',
        f'{{"text_sha": "{"0" * 64}", "score": 50}}',
        f'{{"text_sha": "{"0" * 64}", "score": NaN}}',
        f'{{"text_sha": "{"0" * 64}", "score": "0.5"}}',
    ],
)
def test_a_damaged_score_stops_with_file_and_line(line: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(f'{{"text_sha": "{sha("fine")}", "score": 1}}\n{line}\n')
    with pytest.raises(CorpusError, match=r"scores\.jsonl:2 is no score"):
        read_scores(path)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
