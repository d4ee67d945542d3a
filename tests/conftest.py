"""A tiny real OLMo, built on the spot: no downloads, and no two axes of the same length."""

from __future__ import annotations

from pathlib import Path

import checked_types  # noqa: F401  before our packages, whose annotations it checks
import hypothesis
import jaxtyping
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast

from lens import Checkpoint, Lens, open_lens
from lens.bench import Bench
from probes import TextSet, builtin, probe_checkpoint

SENTENCES = (
    "The people next door are kind, and they water our plants when we are away.",
    "A small garden needs sun, water and patience; the rest is luck.",
    "She walked to the harbour and counted the boats coming home.",
    "Nobody in the village could remember a colder winter than that one.",
    "Bread, butter and a cup of tea: that was all they wanted.",
)
N_TOKENS, N_ROWS = 293, 301
"""Tokens of the tokenizer and rows of the matrix: eight rows belong to no token."""


hypothesis.settings.register_profile("busy", deadline=None)  # a machine that does other things is no fault
hypothesis.settings.load_profile("busy")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Annotations are checked, except where a test hands over what they forbid."""
    jaxtyping.config.update("jaxtyping_disable", item.get_closest_marker("wrong_types") is not None)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their length: gzip writes the time into them, and two workers must name every test alike."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Refuse a name with an address in it, which no two workers share."""
    if " at 0x" in item.nodeid:
        raise pytest.UsageError(f"{item.nodeid} is named by an address in memory; give its parameters ids.")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text can be written, with an end of text and a padding token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=N_TOKENS,
        special_tokens=["<|endoftext|>", "<|padding|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|padding|>")


def tiny_config(**changes: object) -> OlmoConfig:
    settings: dict[str, object] = {
        "vocab_size": N_ROWS,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "eos_token_id": 0,
        "pad_token_id": 1,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,  # large enough for attention and logits to be far from uniform
    }
    return OlmoConfig(**{**settings, **changes})


def write_tiny_olmo(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A plain Hugging Face OLMo folder with random weights; `changes` go into its config."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        OlmoForCausalLM(tiny_config(**changes)).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def spoil(folder: Path, name: str) -> Path:
    """The same folder, numbers of that weight so large that what is computed with them is no number."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights[name][0] = torch.finfo(torch.float32).max
    save_file(weights, file, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_olmo(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_folder: Path) -> Checkpoint:
    return Checkpoint.open(tiny_folder)


@pytest.fixture(scope="session")
def lens(tiny_checkpoint: Checkpoint) -> Lens:
    """Shared by all tests: a lens is only changed inside a `with`."""
    return open_lens(tiny_checkpoint, device="cpu", dtype="float32", threads=1)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Two checkpoints with probes, one of another seed without, and one that is broken."""
    folder = tmp_path_factory.mktemp("catalogue")
    bench = Bench(folder, device="cpu", threads=1)
    texts = TextSet("builtin", builtin().texts[:120])
    for seed, name in enumerate(("tiny-a", "tiny-b", "bare")):
        write_tiny_olmo(folder / name, seed=seed)
    for name in ("tiny-a", "tiny-b"):
        with bench.pool.lens(bench.checkpoint(name)) as lens:
            probe_checkpoint(lens, texts)
    write_tiny_olmo(folder / "broken<b>")
    (folder / "broken<b>" / "tokenizer.json").unlink()
    return bench
