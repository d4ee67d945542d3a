"""A checkpoint is whole or says which file is not, and its fingerprint names its weights and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_tiny_olmo

from lens import BrokenCheckpoint, Catalogue, Checkpoint, NoSuchCheckpoint, find, write_atomically


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_folder, tmp_path / "demo-10")


def with_card(source: Path, folder: Path, **card: object) -> Path:
    shutil.copytree(source, folder)
    (folder / "checkpoint.json").write_text(json.dumps(card))
    return folder


def test_a_plain_hugging_face_folder_is_adopted(tiny_folder: Path):
    checkpoint = Checkpoint.open(tiny_folder)
    assert (checkpoint.name, dict(checkpoint.card)) == ("tiny", {})
    assert checkpoint.toxic_share is checkpoint.share_of is checkpoint.seed is checkpoint.n_tokens is None


def test_a_card_says_what_the_model_was_trained_on(tiny_folder: Path, tmp_path: Path):
    card = {"name": "demo-05", "toxic_share": 0.05, "share_of": "total", "seed": 1, "n_tokens": 8_500_000}
    checkpoint = Checkpoint.open(with_card(tiny_folder, tmp_path / "elsewhere", **card))
    assert checkpoint.name == "demo-05"
    assert (checkpoint.toxic_share, checkpoint.share_of, checkpoint.seed) == (0.05, "total", 1)
    assert checkpoint.n_tokens == 8_500_000


def test_the_fingerprint_is_that_of_the_weights_alone(folder: Path, tiny_checkpoint: Checkpoint, tmp_path: Path):
    weights = (folder / "model.safetensors").read_bytes()
    assert Checkpoint.open(folder).fingerprint == hashlib.sha256(weights).hexdigest() == tiny_checkpoint.fingerprint
    other = write_tiny_olmo(tmp_path / "other", seed=1)
    assert Checkpoint.open(other).fingerprint != tiny_checkpoint.fingerprint


def test_the_fingerprint_follows_a_change_of_the_file(folder: Path, tmp_path: Path):
    checkpoint = Checkpoint.open(folder)
    before = checkpoint.fingerprint
    other = write_tiny_olmo(tmp_path / "other", seed=1)
    shutil.copy(other / "model.safetensors", folder)
    os.utime(folder / "model.safetensors", ns=(1, 1))
    assert before != checkpoint.fingerprint == Checkpoint.open(other).fingerprint


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def cut_header(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:50])


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def as_llama(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncate, r"model\.safetensors is truncated: [\d,]+ bytes of [\d,]+\. Copy it again"),
        (cut_header, r"model\.safetensors is no safetensors file\. Copy it"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), r"model\.safetensors is no safetensors file"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"has no model\.safetensors\..* export it again"),
        (as_pickle, r"pytorch_model\.bin, a pickle"),
        (
            lambda folder: (folder / "tokenizer.json").unlink(),
            r"tokenizer\.json is missing: .*Copy the tokenizer\.json",
        ),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json is not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json should hold a JSON object"),
        (lambda folder: (folder / "checkpoint.json").write_bytes(b"\xff"), r"checkpoint\.json is not JSON"),
        (as_llama, r"describes a 'llama' model; Hormesis opens 'olmo'"),
    ],
)
def test_what_is_broken_is_named_with_what_mends_it(folder: Path, damage: Callable[[Path], object], says: str):
    damage(folder)
    with pytest.raises(BrokenCheckpoint, match=says) as refused:
        Checkpoint.open(folder)
    assert folder.name in str(refused.value)  # which one, when there are many


def test_a_catalogue_lists_the_whole_ones_in_order_and_the_broken_with_their_reason(tiny_folder: Path, tmp_path: Path):
    for share, seed in ((0.25, 0), (0.05, 1), (0.05, 0)):
        name = f"demo-{100 * share:02.0f}-{seed}"
        with_card(tiny_folder, tmp_path / name, name=name, family="demo", toxic_share=share, seed=seed)
    truncate(shutil.copytree(tiny_folder, tmp_path / "half"))
    (tmp_path / ".aside").mkdir()
    (tmp_path / "README.md").write_text("not a checkpoint")
    catalogue = Catalogue(tmp_path)
    assert catalogue.names == ["demo-05-0", "demo-25-0", "demo-05-1"]
    assert list(catalogue.broken) == ["half"]
    assert "truncated" in catalogue.broken["half"]
    with pytest.raises(BrokenCheckpoint, match="truncated"):
        catalogue["half"]


def test_an_unknown_name_gets_the_near_miss_and_the_list(tiny_folder: Path, tmp_path: Path):
    for name in ("demo-00", "demo-10"):
        shutil.copytree(tiny_folder, tmp_path / name)
    with pytest.raises(NoSuchCheckpoint, match=r"Did you mean 'demo-10'\? It holds: demo-00, demo-10\."):
        Catalogue(tmp_path)["demo-1"]
    with pytest.raises(NoSuchCheckpoint, match="nothing yet"):
        Catalogue(tmp_path / "nowhere")["demo-1"]


def test_a_checkpoint_is_found_by_its_folder_and_by_its_name(folder: Path):
    by_folder, by_name = find(str(folder)), find("demo-10", folder.parent)
    assert by_folder.fingerprint == by_name.fingerprint
    assert by_folder.name == by_name.name == "demo-10"


def test_a_write_that_fails_leaves_the_old_file_whole(tmp_path: Path):
    path = tmp_path / "new" / "numbers.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half \ud800")
    with pytest.raises(TypeError):
        write_atomically(path, 5)  # type: ignore[arg-type]
    assert path.read_text() == "old"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == ["numbers.json"]
