"""Nothing is replaced unasked: each command goes on with its own earlier output, and refuses what is not its own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import made_results as made
import numpy as np
import pytest
from conftest import write_tiny_olmo
from safetensors.numpy import save_file

from evaluation.builtin_scorer import BuiltinScorer, is_scorer
from evaluation.commands.agree import agree
from evaluation.commands.compare import compare
from evaluation.commands.fit_scorer import fit_scorer
from evaluation.commands.reproduce import reproduce
from evaluation.results import Results
from lens import Checkpoint, Lens, open_lens
from lens.own_output import InTheWay, is_free
from probes import BadTexts, ProbeSet, TextSet, builtin, probe_checkpoint
from probes.__main__ import draw, fit

OTHERS = "somebody else's work\n"
THERE = "is there already, and it was not written by this command before"


@pytest.fixture(scope="module")
def lens(tmp_path_factory: pytest.TempPathFactory) -> Lens:
    folder = tmp_path_factory.mktemp("own") / "tiny"
    write_tiny_olmo(folder)
    found = open_lens(str(folder), device="cpu", dtype="float32", threads=1)
    probe_checkpoint(found, TextSet("builtin", builtin().texts[:120]))
    return found


@pytest.fixture
def own(lens: Lens, tmp_path: Path) -> Path:
    """A folder with a checkpoint and its probes."""
    return Path(shutil.copytree(lens.checkpoint.folder, tmp_path / "tiny"))


def texts(path: Path, n: int = 30) -> Path:
    rows = [{"text": f"{word} {row}", "label": label} for row in range(n) for word, label in (("so", 1), ("no", 0))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["builtin.jsonl", "mine.jsonl"])
def test_probes_of_a_name_are_replaced_by_those_on_the_same_texts_alone(
    own: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture
) -> None:
    """A file that is named like a set that ships, or an own file that has changed since."""
    stem = name.removesuffix(".jsonl")
    if stem != "builtin":
        fit((str(own),), str(texts(tmp_path / name)), device="cpu")
        fit((str(own),), str(tmp_path / name), seed=1, device="cpu")
        assert ProbeSet.load(Checkpoint.open(own), stem).seed == 1
    before = content(own)
    other = str(texts(tmp_path / name, 40))
    with pytest.raises(InTheWay, match=rf"{stem}\.json is there already.* give --name, or --overwrite"):
        fit((str(own),), other, device="cpu")
    opened = open_lens(str(own), device="cpu", dtype="float32", threads=1)
    with pytest.raises(InTheWay, match="other texts or labels"):
        probe_checkpoint(opened, replace(builtin(), name=stem))
    assert content(own) == before
    fit((str(own),), other, name="another", device="cpu")
    fit((str(own),), other, device="cpu", overwrite=True)
    assert ProbeSet.load(Checkpoint.open(own), stem).n_train == 64
    (own / "probes" / f"{stem}.json").write_text("{")
    with pytest.raises(InTheWay, match="or damaged"):
        fit((str(own),), other, device="cpu")


def test_a_map_replaces_a_map_and_nothing_else(own: Path, tmp_path: Path) -> None:
    for kind in ("png", "svg", "csv", "json"):
        out = tmp_path / f"map.{kind}"
        out.write_text(OTHERS)
        with pytest.raises(InTheWay, match=rf"map\.{kind} {THERE}\. Give another --out, or --overwrite"):
            draw((str(own),), out, probes="builtin")
        assert out.read_text() == OTHERS
        draw((str(own),), out, probes="builtin", overwrite=True)
        draw((str(own),), out, probes="builtin")
    probes = own / "probes" / "builtin.json"
    with pytest.raises(InTheWay):
        draw((str(own),), probes, probes="builtin")
    ProbeSet.load(Checkpoint.open(own), "builtin")


def test_a_comparison_goes_into_its_own_folder_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = made.written(tmp_path / "rows", made.generations(plans=("none", "iti@8"), n_prompts=6))
    out = tmp_path / "mine"
    out.mkdir()
    (out / "notes.txt").write_text(OTHERS)
    compare((rows,), out)
    first = content(out)
    compare((rows,), out)
    assert content(out).keys() == first.keys()
    (other := tmp_path / "other").mkdir()
    (other / "cells.csv").write_text(OTHERS)
    for foreign in (None, "[]", '{"cells": 3}'):
        if foreign:
            (other / "extract.json").write_text(foreign)
        with pytest.raises(InTheWay, match=THERE):
            compare((rows,), other)
        assert (other / "cells.csv").read_text() == OTHERS
    compare((rows,), other, overwrite=True)


def test_a_page_of_results_replaces_a_page_of_results(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = made.written(
        tmp_path / "rows", made.generations(n_prompts=10, plans=made.PLANS[:3]), made.costs(plans=made.PLANS[:3])
    )
    out, numbers = tmp_path / "page.md", tmp_path / "demo.json"
    for _ in range(2):
        reproduce((rows,), out, extract_to=numbers)
    whole = content(tmp_path)
    for path in (out, numbers):
        page = path.read_bytes()
        path.write_text(OTHERS)
        with pytest.raises(InTheWay, match=rf"{path.name} {THERE}"):
            reproduce((rows,), out, extract_to=numbers)
        path.write_bytes(page)
    assert content(tmp_path) == whole
    out.unlink()
    with pytest.raises(InTheWay, match=rf"\.svg {THERE}"):
        reproduce((rows,), out)
    reproduce((rows,), out, overwrite=True)


def test_an_agreement_replaces_an_agreement(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": "a", "x": row / 9, "y": row / 10}) + "\n" for row in range(9)))
    for _ in range(2):
        agree("column:x", "column:y", str(path), tmp_path / "out")
    (tmp_path / "out" / "agree.json").write_text('{"first": 1}')
    with pytest.raises(InTheWay, match=rf"agree\.json {THERE}"):
        agree("column:x", "column:y", str(path), tmp_path / "out")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "agree.png").write_text(OTHERS)
    with pytest.raises(InTheWay, match=rf"agree\.png {THERE}"):
        agree("column:x", "column:y", str(path), tmp_path / "new")
    agree("column:x", "column:y", str(path), tmp_path / "new", overwrite=True)


def test_a_fitted_scorer_replaces_a_scorer_and_no_model(tmp_path: Path) -> None:
    BuiltinScorer.open().save(tmp_path / "ours.safetensors")
    save_file({"table": np.zeros(3)}, tmp_path / "model.safetensors", metadata={"version": "1"})
    (tmp_path / "text.safetensors").write_text(OTHERS)
    assert [is_scorer(tmp_path / f"{name}.safetensors") for name in ("ours", "model", "text")] == [True, False, False]
    nothing = (tmp_path / "none.jsonl",)  # what is in the way is said before anything is read
    with pytest.raises(InTheWay, match=rf"model\.safetensors {THERE}"):
        fit_scorer(nothing, nothing, tmp_path / "model.safetensors")
    with pytest.raises(BadTexts, match="no file"):
        fit_scorer(nothing, nothing, tmp_path / "ours.safetensors")
    (tmp_path / "page.md").write_text(OTHERS)
    with pytest.raises(InTheWay, match=r"page\.md .* Give another --markdown"):
        fit_scorer(nothing, nothing, tmp_path / "new.safetensors", markdown=tmp_path / "page.md")


@pytest.mark.parametrize(
    ("name", "foreign"),
    [
        ("rows.jsonl", OTHERS),
        ("rows.jsonl", OTHERS.strip()),
        ("rows.jsonl", '{"text": "without an end"}'),
        ("rows.jsonl", '{"text": "a"}\n{"text": "b"'),
        ("sweep.json", "[]"),
        ("sweep.json", OTHERS),
        ("sweep.json", '{"name": "another program\'s"}'),
    ],
)
def test_measurements_are_added_to_measurements_alone(tmp_path: Path, name: str, foreign: str) -> None:
    (tmp_path / name).write_text(foreign)
    with Results(tmp_path) as results, pytest.raises(ValueError, match=r"[Gg]ive another folder"):
        results.describe({"seeds": [0]})
    if name == "rows.jsonl":
        with Results(tmp_path) as results, pytest.raises(ValueError, match="Give another folder"):
            results.append([{"kind": "cost", "unit": "u", "plan": "none"}])
    assert (tmp_path / name).read_text() == foreign


def test_what_a_killed_writer_left_is_still_cut_off(tmp_path: Path) -> None:
    row = {"kind": "cost", "unit": "u", "plan": "none"}
    for torn in ("", "{", '{"kind": "co', '{"kind": "cost", "unit": "v", "plan": "no'):
        folder = tmp_path / f"{len(torn)}"
        folder.mkdir()
        (folder / "rows.jsonl").write_text(torn)
        with Results(folder) as results:
            results.append([row])
        assert (folder / "rows.jsonl").read_text() == json.dumps(row) + "\n"


def test_a_folder_is_free_where_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    assert [is_free(tmp_path / name) for name in ("none", "empty", "file", "broken", "")] == [True, True, *[False] * 3]
