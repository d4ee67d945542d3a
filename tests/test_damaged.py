"""Damaged folders are refused, unavailable, or opened because they are whole: one of each kind of damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from benchmarks.damaged import MUST_BE_FOUND, judge_folder, link_folder, run_damages, summary
from benchmarks.damages import DAMAGES
from lens import Checkpoint, Lens

SEED = 3


def with_card(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    named = Checkpoint.open(folder).card_of_model
    (folder / "checkpoint.json").write_text(json.dumps({"toxic_share": 0.1, "seed": 0, **named}))
    return folder


def test_every_kind_of_damage_is_found_or_harmless(tiny_folder: Path, tmp_path: Path):
    found = run_damages(with_card(tiny_folder, tmp_path / "whole"), len(DAMAGES), SEED, limit_s=120)
    assert [one.damage for one in found] == [damage.__name__ for damage in DAMAGES]
    assert [one for one in found if not one.is_right] == []
    assert {one.outcome for one in found if one.damage in MUST_BE_FOUND} == {"refused"}
    assert summary(found, SEED)["right"] == len(DAMAGES)


def test_the_judge_sees_a_whole_folder_a_changed_one_and_one_without_a_word(
    lens: Lens, tiny_folder: Path, tmp_path: Path
):
    logits = lens.plain_logits(torch.tensor([[2, 3, 5, 7, 11, 13, 17, 19]]))
    link_folder(with_card(tiny_folder, tmp_path / "whole"), whole := tmp_path / "links" / "whole")
    assert judge_folder(whole, lens.fingerprint, logits) == ("opened: the same model", "")
    assert judge_folder(whole, lens.fingerprint, logits + 1)[0] == "FAILED: other logits with the same fingerprint"
    assert judge_folder(whole, "0" * 64, logits)[0] == "FAILED: another model without a word"
