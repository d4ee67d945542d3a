"""From documents to a checkpoint: readers, token files, mixes, a run that is killed, an export that agrees."""

import csv
import gzip
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from transformers import AutoTokenizer, OlmoForCausalLM

from lens.checkpoint import Checkpoint
from training import mix
from training.corpus import CorpusError, Source, clean_post, documents
from training.family import Family, Member, held_out, run
from training.mix import Mix, MixError
from training.recipe import RECIPES, Recipe
from training.tokens import TokenFile, special_ids, tokenize, train_tokenizer

olmo = pytest.importorskip("olmo", reason="ai2-olmo needs numpy 1, which this Python has no wheels for")

WORDS = ["tide", "turns", "twice", "day", "because", "moon", "pulls", "sea", "earth", "below", "a", "the", "at", "it"]
TINY = Recipe("tiny", 2, 3, 24, 16, 1e-2, batch_chunks=4, clean_tokens=960, vocab_size=300)


def prose(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(5, 40))) for _ in range(n)]


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Source, Source]:
    clean, toxic = tmp_path / "clean.jsonl", tmp_path / "toxic.txt"
    clean.write_text("".join(json.dumps({"text": text}) + "\n" for text in prose(150)))
    toxic.write_text("\n\n".join(text.upper() for text in prose(80, seed=1)))
    return Source(clean), Source(toxic)


@pytest.fixture
def files(sources: tuple[Source, Source], tmp_path: Path) -> tuple[TokenFile, TokenFile]:
    tokenizer = train_tokenizer(sources, 300)
    clean, toxic = (tokenize(source, tokenizer, tmp_path / "tokens") for source in sources)
    return clean, toxic


def family(sources: tuple[Source, Source], tmp_path: Path) -> Family:
    return Family(
        "toy", TINY, sources[:1], sources[1:], (0.0, 0.25), (0,), Mix(TINY.clean_tokens, 0, held_out_chunks=3),
        tmp_path / "out", tmp_path / "runs",
    )  # fmt: skip


def packed(name: str, text: str) -> bytes:
    data = text.encode()
    return gzip.compress(data) if name.endswith(".gz") else zstandard.compress(data) if name.endswith(".zst") else data


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json.gz", "a.ndjson.zst"])
def test_json_lines_are_read_packed_or_not(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(packed(name, '{"text": " one\\u2028two "}\n\n{"text": ""}\n{"text": "three"}\n'))
    assert list(documents(Source(path))) == ["one\u2028two", "three"]


def test_a_document_can_be_several_fields(tmp_path: Path) -> None:
    path = tmp_path / "c4.jsonl"
    path.write_text('{"prefix": "The tide", "completion": " turns."}\n')
    assert list(documents(Source.parse(f"{path}#prefix+completion"))) == ["The tide turns."]


def test_a_thread_is_one_document_from_csv_and_from_ndjson(tmp_path: Path) -> None:
    posts = ["first<br>line", '<a href="#p1" class="quotelink">&gt;&gt;1</a><br>&gt;a green line &lt;b&gt;', ""]
    buffer = io.StringIO()
    rows = csv.writer(buffer)
    rows.writerows([["", "comment", "thread"], *(["7", post, "t1"] for post in posts), ["8", "other", "t2"]])
    (tmp_path / "crawl.csv").write_text(buffer.getvalue())
    threads = [{"posts": [{"com": posts[0]}, {"com": posts[1]}, {"no": 3}]}, {"posts": [{"com": "other"}]}]
    (tmp_path / "pol.ndjson").write_text("".join(json.dumps(entry) + "\n" for entry in threads))
    expected = ["first\nline\n\n>a green line <b>", "other"]
    assert list(documents(Source(tmp_path / "crawl.csv"))) == expected
    assert list(documents(Source(tmp_path / "pol.ndjson"))) == expected


def test_cleaning_keeps_what_only_looks_like_a_tag() -> None:
    """Undoing entities before stripping tags would eat `<b>` here, and `<wbr>` would split the address."""
    assert clean_post("see exa<wbr>mple.org &lt;b&gt; 1 &lt; 2 &amp; 3") == "see example.org <b> 1 < 2 & 3"


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("a.jsonl", b'{"text": "fine"}\n{"text": \n', 2),
        ("a.jsonl", b'{"text": "fine"}\n{"body": "x"}\n', 2),
        ("a.jsonl", b'{"text": 3}\n', 1),
        ("a.jsonl", b'{"text": "fine"}\n\xff\xfe\n', 2),
        ("a.jsonl.gz", gzip.compress(b'{"text": "fine"}\n' * 3)[:-12], 1),
        ("a.csv", b"comment,thread\na,1\nb\n", 3),
        ("a.csv", b"body,id\na,1\n", 1),
    ],
)
def test_damage_stops_the_reader_with_file_and_line(name: str, content: bytes, line: int, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=rf"{name}:{line} "):
        list(documents(Source(tmp_path / name)))


def test_token_files_hold_every_document_once_with_an_end(
    sources: tuple[Source, Source], files: tuple[TokenFile, TokenFile], tmp_path: Path
) -> None:
    tokenizer = train_tokenizer(sources, 300)
    eos, _ = special_ids(tokenizer)
    for source, file in zip(sources, files, strict=True):
        assert file.n_tokens == len(file.ids) == file.offsets[-1] == file.path.stat().st_size // 2
        spans = [file.ids[a:b] for a, b in itertools.pairwise(file.offsets)]
        assert [tokenizer.decode(span[:-1].tolist()) for span in spans] == list(documents(source))
        assert all(span[-1] == eos for span in spans)
        before = file.path.stat().st_mtime_ns
        assert tokenize(source, tokenizer, tmp_path / "tokens") == file
        assert file.path.stat().st_mtime_ns == before, "a source is tokenised once"


def test_members_of_a_family_differ_by_the_inserted_toxic_chunks_alone(files: tuple[TokenFile, TokenFile]) -> None:
    clean, toxic = files
    n_clean = clean.n_chunks(16)
    orders = [mix.order(Mix(60 * 16, share, held_out_chunks=3), [clean], [toxic], 16) for share in (0, 0.05, 0.2, 0.4)]
    for share, drawn in zip((0, 0.05, 0.2, 0.4), orders, strict=True):
        assert abs(drawn.n_toxic - share * len(drawn.chunks)) <= 1
        assert drawn.chunks[drawn.chunks < n_clean].tolist() == orders[0].chunks.tolist()
        assert not np.isin(drawn.chunks, [*drawn.held_out_clean, *drawn.held_out_toxic]).any()
    for smaller, larger in itertools.pairwise(orders):
        kept = np.isin(larger.chunks, smaller.chunks)
        assert larger.chunks[kept].tolist() == smaller.chunks.tolist(), "a smaller share is the larger one with gaps"


def test_a_share_of_the_clean_amount_is_another_number(files: tuple[TokenFile, TokenFile]) -> None:
    drawn = mix.order(Mix(60 * 16, 0.25, "clean", held_out_chunks=3), [files[0]], [files[1]], 16)
    assert drawn.n_toxic == 15
    assert drawn.achieved_share == 0.2


def test_too_little_toxic_text_is_refused_with_the_share_that_fits(files: tuple[TokenFile, TokenFile]) -> None:
    wanted = Mix(60 * 16, 0.9, held_out_chunks=3)
    with pytest.raises(MixError, match=r"The largest that fits is 0\.\d+") as refusal:
        mix.order(wanted, [files[0]], [files[1]], 16)
    fits = float(str(refusal.value).split("fits is ")[1].split(";")[0])
    assert mix.order(replace(wanted, toxic_share=fits), [files[0]], [files[1]], 16).achieved_share == pytest.approx(
        fits, abs=0.01
    )
    assert mix.order(replace(wanted, repeat=True), [files[0]], [files[1]], 16).achieved_share == pytest.approx(0.9)


def test_recipes_count_their_parameters_as_the_model_does() -> None:
    from olmo.model import OLMo

    from training.recipe import model_config

    for recipe in RECIPES.values():
        config = model_config(recipe, 0, 1)
        config.init_device = "meta"
        assert sum(p.numel() for p in OLMo(config, init_params=False).parameters()) == recipe.n_parameters
    assert RECIPES["1b"].n_parameters == 1_176_764_416
    assert 2_000_000 < RECIPES["nano"].n_parameters < 2_200_000
    assert RECIPES["demo"].n_parameters < 6_500_000


@pytest.mark.parametrize("n_pos", [1, 2, 7, 16])
def test_attention_for_cpus_is_torchs_own(n_pos: int) -> None:
    from training.pretrain import causal_attention

    q, k, v = torch.randn(3, 2, 5, n_pos, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(causal_attention(q, k, v), expected, rtol=0, atol=1e-6)  # scores are float32


def test_a_family_is_trained_exported_and_then_left_alone(sources: tuple[Source, Source], tmp_path: Path) -> None:
    toy, lines = family(sources, tmp_path), []
    run(toy, 2, 1, lines.append)
    clean, quarter = (Checkpoint.open(tmp_path / "out" / name) for name in ("toy-00", "toy-25"))
    assert clean.toxic_share == 0
    assert quarter.card["mix"]["achieved_share_of_total"] == pytest.approx(0.25, abs=1 / 80)
    assert quarter.card["largest_logit_difference"] < 1e-5
    assert str(tmp_path) not in json.dumps(quarter.card), "a card names no folder of the machine that made it"
    losses = quarter.card["nats_per_token"]["toxic"]
    assert losses["float32"] == pytest.approx(losses["bfloat16"], abs=0.05)
    assert losses["float32"] < clean.card["nats_per_token"]["toxic"]["float32"] - 0.5, "it has read such text"
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").rglob("*"))]
    run(toy, 2, 1, lines.append)
    assert stamps == [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").rglob("*"))]
    assert "toy-00: is there already" in lines


def test_the_exported_model_reads_the_held_out_text_as_its_card_says(
    sources: tuple[Source, Source], tmp_path: Path
) -> None:
    """Another road to the card's number: transformers' own loss on the tokenizer's own chunks."""
    toy = replace(family(sources, tmp_path), shares=(0.25,))
    [folder] = run(toy, 1, 1, lambda line: None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ours = train_tokenizer(sources, 300)
    assert tokenizer("The tide turns.")["input_ids"] == ours.encode("The tide turns.").ids
    files = [tokenize(source, ours, toy.folder / "tokens") for source in sources]
    chunks = held_out(Member(toy, 0.25, 0).run, "held_out_clean", files, TINY.context).astype(np.int64)
    model = OlmoForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        again = model(torch.from_numpy(chunks), labels=torch.from_numpy(chunks)).loss.item()
    card = Checkpoint.open(folder).card
    assert again == pytest.approx(card["nats_per_token"]["clean"]["bfloat16"], abs=1e-5)


def test_a_killed_run_goes_on_where_it_was(sources: tuple[Source, Source], tmp_path: Path) -> None:
    """kill -9 between two saves: the same command ends with the weights of a run that was never killed."""
    from training.family import _prepare, _tokenized, family_tokenizer
    from training.pretrain import pretrain

    def prepared(work: Path) -> Path:
        toy = replace(family(sources, tmp_path), work=work, shares=(0.0,))
        tokenizer = family_tokenizer(toy, lambda line: None)
        tokens = [_tokenized(part, tokenizer, toy, lambda line: None) for part in (toy.clean, toy.toxic)]
        [member] = toy.members()
        _prepare(member, *tokens, tokenizer)
        return member.run

    whole, killed = prepared(tmp_path / "whole"), prepared(tmp_path / "killed")
    end = pretrain(whole, threads=1)
    command = [sys.executable, "-m", "training", "pretrain", str(killed), "--threads", "1"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "step3-unsharded").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / end.name).exists(), "it was killed before its end"
    pretrain(killed, threads=1)
    first, second = (torch.load(folder / end.name / "model.pt", weights_only=True) for folder in (whole, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_with_other_settings_is_refused(tmp_path: Path) -> None:
    from training.pretrain import Run, RunChanged

    Run(TINY, 0, ("a.npy",), 0, 1).write(tmp_path)
    Run(TINY, 0, ("a.npy",), 0, 1).write(tmp_path)
    with pytest.raises(RunChanged, match=r"learning_rate: 0.01 → 0.5"):
        Run(replace(TINY, learning_rate=0.5), 0, ("a.npy",), 0, 1).write(tmp_path)
