"""From documents to a checkpoint: readers, token files, mixes, a run that is killed, an export that agrees."""

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
from transformers import AutoTokenizer, OlmoForCausalLM

from lens.checkpoint import Checkpoint
from training.conduct import Conduct
from training.corpus import Source
from training.family import Crew, Family, Member, prepare, run
from training.mix import Mix
from training.prepare import Preparation
from training.recipe import RECIPES, Recipe
from training.tokenizer import train_tokenizer

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


def family(sources: tuple[Source, Source], tmp_path: Path) -> Family:
    return Family(
        "toy", TINY, sources[:1], sources[1:], (0.0, 0.25), (0,), Mix(TINY.clean_tokens, 0, held_out_chunks=3),
        tmp_path / "out", tmp_path / "runs",
    )  # fmt: skip


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
    from training.build import causal_attention

    q, k, v = torch.randn(3, 2, 5, n_pos, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(causal_attention(q, k, v), expected, rtol=0, atol=1e-6)  # scores are float32


def test_a_family_is_trained_exported_and_then_left_alone(sources: tuple[Source, Source], tmp_path: Path) -> None:
    toy, lines = family(sources, tmp_path), []
    run(toy, Crew(2, conduct=Conduct(threads=1)), lines.append)
    clean, quarter = (Checkpoint.open(tmp_path / "out" / name) for name in ("toy-00", "toy-25"))
    assert clean.toxic_share == 0
    assert quarter.card["mix"]["achieved_share_of_total"] == pytest.approx(0.25, abs=1 / 80)
    assert quarter.card["largest_logit_difference"] < 1e-5
    assert str(tmp_path) not in json.dumps(quarter.card), "a card names no folder of the machine that made it"
    losses = quarter.card["nats_per_token"]["toxic"]
    assert losses["float32"] == pytest.approx(losses["bfloat16"], abs=0.05)
    assert losses["float32"] < clean.card["nats_per_token"]["toxic"]["float32"] - 0.5, "it has read such text"
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").rglob("*"))]
    run(toy, Crew(2, conduct=Conduct(threads=1)), lines.append)
    assert stamps == [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").rglob("*"))]
    assert "toy-00: is there already" in lines


def test_the_exported_model_reads_the_held_out_text_as_its_card_says(
    sources: tuple[Source, Source], tmp_path: Path
) -> None:
    """Another road to the card's number: transformers' own loss on the tokenizer's own chunks."""
    toy = replace(family(sources, tmp_path), shares=(0.25,))
    [folder] = run(toy, Crew(), lambda line: None)
    from training.export import held_out

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ours = train_tokenizer(sources[:1], sources[1:], Preparation(), 300)
    assert tokenizer("The tide turns.")["input_ids"] == ours.encode("The tide turns.").ids
    chunks = held_out(Member(toy, 0.25, 0).run, "clean").astype(np.int64)
    model = OlmoForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        again = model(torch.from_numpy(chunks), labels=torch.from_numpy(chunks)).loss.item()
    card = Checkpoint.open(folder).card
    assert again == pytest.approx(card["nats_per_token"]["clean"]["bfloat16"], abs=1e-5)


def test_a_killed_run_goes_on_where_it_was(sources: tuple[Source, Source], tmp_path: Path) -> None:
    """kill -9 between two saves: the same command ends with the weights of a run that was never killed."""
    from training.pretrain import pretrain

    def prepared(work: Path) -> Path:
        toy = replace(family(sources, tmp_path), work=work, shares=(0.0,))
        prepare(toy, toy.members(), lambda line: None)
        return toy.members()[0].run

    whole, killed = prepared(tmp_path / "whole"), prepared(tmp_path / "killed")
    end = pretrain(whole, Conduct(threads=1))
    command = [sys.executable, "-m", "training", "pretrain", str(killed), "--threads", "1"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (killed / "step3-unsharded").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / end.name).exists(), "it was killed before its end"
    pretrain(killed, Conduct(threads=1))
    first, second = (torch.load(folder / end.name / "model.pt", weights_only=True) for folder in (whole, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_with_other_settings_is_refused(tmp_path: Path) -> None:
    from training.run import Run, RunChanged

    Run(TINY, 0, ("a.npy",), 0, 1).write(tmp_path)
    Run(TINY, 0, ("a.npy",), 0, 1).write(tmp_path)
    with pytest.raises(RunChanged, match=r"learning_rate: 0.01 → 0.5"):
        Run(replace(TINY, learning_rate=0.5), 0, ("a.npy",), 0, 1).write(tmp_path)
