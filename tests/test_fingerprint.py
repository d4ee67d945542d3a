"""A fingerprint names a model: its weights, its config and its tokenizer, however they lie in files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import write_tiny_olmo
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from lens import BrokenCheckpoint, Checkpoint, LensPool, open_lens


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def fingerprint(folder: Path) -> str:
    return Checkpoint.open(folder).fingerprint


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reshard(folder: Path) -> None:
    """The same tensors in two files, half and half, with an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, weight_map = list(weights), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_the_same_model_has_the_same_fingerprint_however_it_lies_in_files(folder: Path, tiny_checkpoint: Checkpoint):
    assert fingerprint(folder) == tiny_checkpoint.fingerprint
    (folder / "README.md").write_text("words")
    (folder / "checkpoint.json").write_text(json.dumps({"toxic_share": 0.1}))
    assert fingerprint(folder) == tiny_checkpoint.fingerprint
    reshard(folder)
    assert fingerprint(folder) == tiny_checkpoint.fingerprint
    tokens = open_lens(tiny_checkpoint, "cpu").encode("The people next door")
    both = [open_lens(Checkpoint.open(one), "cpu") for one in (folder, tiny_checkpoint.folder)]
    batches = [lens.plain_logits(lens.pad([tokens])[0]) for lens in both]
    assert_close(batches[0], batches[1], rtol=0, atol=0)


@pytest.mark.parametrize("stray", ["model-old.safetensors", "model-00003-of-00003.safetensors"])
@pytest.mark.parametrize("in_shards", [False, True])
def test_a_stray_file_changes_nothing(folder: Path, tiny_checkpoint: Checkpoint, stray: str, in_shards: bool):
    other = write_tiny_olmo(folder.parent / "other", seed=1)
    if in_shards:
        reshard(folder)
    shutil.copy(other / "model.safetensors", folder / stray)
    found = Checkpoint.open(folder)
    assert found.fingerprint == tiny_checkpoint.fingerprint
    assert found.n_parameters == tiny_checkpoint.n_parameters
    assert found.n_parameters == sum(p.numel() for p in open_lens(found, "cpu").model.parameters())


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("transformers_version"),
        lambda c: c.update(transformers_version="4.40.0", _name_or_path="/somewhere", use_cache=False),
        lambda c: c.update(dtype="bfloat16", torch_dtype="float16", architectures=None, attention_dropout=0.5),
        lambda c: c.update(rope_theta=c.pop("rope_parameters")["rope_theta"]),
        lambda c: c.update(rope_theta=10000, rope_scaling=None, rope_parameters=None),
        lambda c: c.update(clip_qkv=None, eos_token_id=[0]),
        lambda c: c.update(eos_token_id=[5, 0]),  # probes stay as good when an end token is corrected
        lambda c: c.pop("num_key_value_heads"),
    ],
)
def test_another_spelling_of_the_config_is_the_same_model(
    folder: Path, tiny_checkpoint: Checkpoint, change: Callable[[dict[str, Any]], object]
):
    edit(folder / "config.json", change)
    assert fingerprint(folder) == tiny_checkpoint.fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"clip_qkv": 0.5},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
        {"rope_theta": 500.0, "rope_parameters": None},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
        {"max_position_embeddings": 32},
        {"num_attention_heads": 2, "num_key_value_heads": 2},
    ],
)
def test_another_config_on_the_same_weights_is_another_model(
    folder: Path, tiny_checkpoint: Checkpoint, changes: dict[str, Any]
):
    edit(folder / "config.json", lambda c: c.update(changes))
    assert fingerprint(folder) != tiny_checkpoint.fingerprint


def swap_two_words(content: dict[str, Any]) -> None:
    vocab = content["model"]["vocab"]
    a, b = sorted(vocab, key=vocab.__getitem__)[-2:]
    vocab[a], vocab[b] = vocab[b], vocab[a]


def test_another_tokenizer_on_the_same_weights_is_another_model(folder: Path, tiny_checkpoint: Checkpoint):
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=3, sort_keys=True))
    edit(path, lambda c: c.update(truncation=None, padding=None))
    assert fingerprint(folder) == tiny_checkpoint.fingerprint
    edit(path, swap_two_words)
    assert fingerprint(folder) != tiny_checkpoint.fingerprint


def test_merges_in_the_old_spelling_are_the_same_tokenizer(folder: Path, tiny_checkpoint: Checkpoint):
    path = folder / "tokenizer.json"
    edit(path, lambda c: c["model"].update(merges=[" ".join(pair) for pair in c["model"]["merges"]]))
    assert fingerprint(folder) == tiny_checkpoint.fingerprint


def test_every_bit_of_the_weights_counts(folder: Path, tiny_checkpoint: Checkpoint):
    path = folder / "model.safetensors"
    whole = bytearray(path.read_bytes())
    for place in (-1, -len(whole) // 2):
        whole[place] ^= 1
        path.write_bytes(whole)
        assert fingerprint(folder) != tiny_checkpoint.fingerprint
        whole[place] ^= 1


def test_a_change_behind_an_open_checkpoint_is_noticed_even_if_size_and_time_stay(folder: Path):
    checkpoint = Checkpoint.open(folder)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        path, before, state = folder / name, checkpoint.fingerprint, checkpoint.state
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        content = path.read_bytes()
        changed = {
            "config.json": content.replace(b'"max_position_embeddings": 64', b'"max_position_embeddings": 63'),
            "tokenizer.json": content.replace(b"<|padding|>", b"<|nothing|>"),
            "model.safetensors": content[:-1] + bytes([content[-1] ^ 1]),
        }[name]
        assert len(changed) == len(content)
        path.write_bytes(changed)
        os.utime(path, ns=times)
        assert checkpoint.state != state, name
        assert checkpoint.fingerprint != before, name


def test_a_config_or_tokenizer_that_changed_is_another_lens_of_the_pool(folder: Path):
    pool, checkpoint = LensPool(device="cpu", threads=1), Checkpoint.open(folder)
    with pool.lens(checkpoint) as first:
        assert first.blocks[0].clip is None
    edit(folder / "config.json", lambda c: c.update(clip_qkv=0.5))
    with pool.lens(checkpoint) as second:
        assert second.blocks[0].clip == 0.5
        assert second.fingerprint != first.fingerprint
    edit(folder / "tokenizer.json", swap_two_words)
    with pool.lens(checkpoint) as third:
        assert third.fingerprint != second.fingerprint
    with pool.lens(Checkpoint.open(folder)) as again:
        assert again is third


def test_a_card_that_names_its_weights_finds_a_flipped_bit(folder: Path):
    (folder / "checkpoint.json").write_text(
        json.dumps({"weights_sha256": Checkpoint.open(folder).digests.weights_sha256})
    )
    open_lens(Checkpoint.open(folder), "cpu")
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.raises(BrokenCheckpoint, match=r"not those that its checkpoint\.json names"):
        open_lens(Checkpoint.open(folder), "cpu")
