"""`python -m lens check` finds what is not as the card says, and says it in a sentence."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SENTENCES

from lens import Checkpoint, open_lens
from lens.__main__ import check
from lens.check import check_checkpoint, held_out_loss

TEXT = "\n".join(SENTENCES * 4)
PARTS = ("files", "weights", "config", "tokenizer", "end tokens", "special tokens", "held-out loss")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder with a card that says all that can be checked, and its text beside."""
    folder = shutil.copytree(tiny_folder, tmp_path / "mine")
    checkpoint = Checkpoint.open(folder)
    loss = held_out_loss(open_lens(checkpoint, "cpu", "float32", 1), TEXT)
    (tmp_path / "text.txt").write_text(TEXT)
    card = {
        **checkpoint.card_of_model,
        "nats_per_token": {"held_out_text": {"float32": loss + 0.1, "bfloat16": loss}},
        "held_out_text": {"file": "text.txt", "sha256": hashlib.sha256(TEXT.encode()).hexdigest()},
    }
    (folder / "checkpoint.json").write_text(json.dumps(card))
    return folder


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def found(folder: Path) -> dict[str, bool | None]:
    return {part.part: part.is_right for part in check_checkpoint(str(folder), "cpu", "float32", 1)}


def wrong(folder: Path) -> list[str]:
    return [part for part, is_right in found(folder).items() if is_right is False]


def swap_words(content: dict[str, Any], a: str, b: str) -> None:
    vocab = content["model"]["vocab"]
    vocab[a], vocab[b] = vocab[b], vocab[a]


def test_an_export_that_is_whole_is_right_in_every_part(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert found(folder) == dict.fromkeys(PARTS, True)
    check((str(folder),), "cpu", "float32", 1)
    assert "held-out loss: " in capsys.readouterr().out


def test_swapped_token_ids_are_found_by_their_digest_and_by_the_loss(folder: Path):
    edit(folder / "tokenizer.json", lambda content: swap_words(content, "e", "Ġ"))
    assert wrong(folder) == ["tokenizer", "held-out loss"]
    (warning,) = open_lens(str(folder), "cpu").warnings
    assert "tokenizer.json of mine is not the one that its card names" in warning
    with pytest.raises(SystemExit, match=r"Not as it should be: .*mine: tokenizer; .*mine: held-out loss"):
        check((str(folder),), "cpu", "float32", 1)


def test_two_common_words_swapped_in_a_shipped_checkpoint_are_seen_in_the_loss(tmp_path: Path):
    shipped = Path(__file__).parent.parent / "checkpoints" / "demo-10"
    copy = shutil.copytree(shipped, tmp_path / "copy", ignore=shutil.ignore_patterns("probes", "steering"))
    assert wrong(copy) == []
    edit(copy / "tokenizer.json", lambda content: swap_words(content, "Ġthe", "Ġof"))
    assert wrong(copy) == ["tokenizer", "held-out loss"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c.update(clip_qkv=0.05), ["config", "held-out loss"]),
        (lambda c: c.update(rope_parameters={"rope_type": "default", "rope_theta": 20.0}), ["config", "held-out loss"]),
        (lambda c: c.update(eos_token_id=[0, 44]), ["end tokens"]),
        (lambda c: c.update(eos_token_id=1), ["end tokens"]),
        (lambda c: c.update(eos_token_id=[]), ["folder"]),
        (lambda c: c.update(num_hidden_layers=10**9), ["folder"]),
    ],
)
def test_another_config_is_found(folder: Path, change: Callable[[dict[str, Any]], object], expected: list[str]):
    edit(folder / "config.json", change)
    assert wrong(folder) == expected


def test_a_flipped_bit_is_found_and_ends_the_list(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert wrong(folder) == ["weights", "folder"]


def test_a_stray_file_is_named_and_no_harm(folder: Path):
    shutil.copy(folder / "model.safetensors", folder / "model-old.safetensors")
    files, *_ = check_checkpoint(str(folder), "cpu", "float32", 1)
    assert files.is_right
    assert "model-old.safetensors beside them are no part of the model" in files.sentence


def test_an_adopted_folder_has_nothing_to_compare_with(tiny_folder: Path):
    unknown = ("weights", "config", "tokenizer", "held-out loss")
    assert found(tiny_folder) == {part: None if part in unknown else True for part in PARTS}


def test_a_tokenizer_that_appends_an_end_of_text_is_said(folder: Path):
    def append(content: dict[str, Any]) -> None:
        end = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
        single, pair = ([{"Sequence": {"id": name, "type_id": 0}} for name in names] for names in ("A", "AB"))
        token = {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
        content["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [*single, end],
            "pair": [*pair, end],
            "special_tokens": {"<|endoftext|>": token},
        }

    edit(folder / "tokenizer.json", append)
    parts = {part.part: part for part in check_checkpoint(str(folder), "cpu", "float32", 1)}
    assert parts["special tokens"].is_right is None
    assert "'<|endoftext|>' behind each text" in parts["special tokens"].sentence
    assert parts["held-out loss"].is_right
