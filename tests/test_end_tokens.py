"""Any end token of a list ends a text; what is none is refused in a sentence, and a plain word is warned of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lens import BrokenCheckpoint, Checkpoint, Lens, open_lens
from steering import Row, Sampling, generate

SAMPLED = Sampling(max_tokens=30, seed=3)
PROMPT = "The people next door"


def with_ends(source: Path, folder: Path, ends: object, generation: object = None) -> Path:
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": ends}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    return folder


def written(lens: Lens) -> tuple[int, ...]:
    return generate(lens, [Row(PROMPT)], SAMPLED)[0].tokens


def test_any_end_token_of_a_list_ends_a_text(lens: Lens, tiny_folder: Path, tmp_path: Path):
    unending = written(lens)
    early, late = unending[4], unending[9]
    assert unending.index(early) == 4
    for number, (ends, generation) in enumerate([([late, early], None), ([0, early], 0), (0, [early, 0]), (early, 0)]):
        opened = open_lens(str(with_ends(tiny_folder, tmp_path / str(number), ends, generation)), "cpu", "float32", 1)
        assert written(opened) == unending[:4]
        own = opened.model.generation_config.eos_token_id  # and so does transformers
        assert early in (own if isinstance(own, list) else [own])


@pytest.mark.parametrize(
    "ends", [[], "0", "<|endoftext|>", ["0"], [None], True, [True], -1, 10**9, 301, [0, 301], 0.0, {}, None]
)
def test_an_end_token_that_is_no_token_is_refused_in_a_sentence(tiny_folder: Path, tmp_path: Path, ends: object):
    with pytest.raises(BrokenCheckpoint, match=r'config\.json: "eos_token_id" is the id of the token'):
        Checkpoint.open(with_ends(tiny_folder, tmp_path / "odd", ends))
    if ends is not None:
        with pytest.raises(BrokenCheckpoint, match=r'generation_config\.json: "eos_token_id" is the id of the token'):
            Checkpoint.open(with_ends(tiny_folder, tmp_path / "odder", 0, ends))


def test_an_end_token_without_a_word_in_the_vocabulary_is_refused(tiny_folder: Path, tmp_path: Path):
    with pytest.raises(BrokenCheckpoint, match=r"token 300 ends a text, which tokenizer\.json does not have"):
        open_lens(str(with_ends(tiny_folder, tmp_path / "row", [0, 300])), "cpu")


def test_an_end_token_that_is_a_plain_word_is_warned_of_wherever_a_text_is_shown(
    lens: Lens, tiny_folder: Path, tmp_path: Path
):
    assert not lens.warnings
    comma = lens.encode(",")[0]
    odd = open_lens(str(with_ends(tiny_folder, tmp_path / "comma", [comma, 0])), "cpu", "float32", 1)
    (warning,) = odd.warnings
    assert f"Token {comma} ends a text here, and it is a plain piece of text, ','" in warning
    (text,) = generate(odd, [Row(PROMPT)], SAMPLED)
    assert warning in str(text.receipt)
    assert json.loads(json.dumps(text.receipt.to_dict()))["model"]["warnings"] == [warning]
    assert open_lens(str(with_ends(tiny_folder, tmp_path / "padding", 1)), "cpu").warnings == ()
