"""Probes, fits and activations say in which number format, where and with which programs they were made."""

from __future__ import annotations

import io
import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import write_tiny_olmo
from marked import P, marked
from PIL import Image

from lens import Activations, Lens, gather, open_lens
from probes import HeadHistogram, Heatmap, ProbeSet, probe_checkpoint
from probes.__main__ import summary
from probes.store import BrokenProbes, path_of, read, write
from steering import fit
from steering.store import path_of as fit_path

KEYS = {"dtype", "device", "torch", "transformers", "hormesis"}


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def lens(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Lens:
    folder = write_tiny_olmo(tmp_path_factory.mktemp("made") / "tiny", max_position_embeddings=256)
    lens = open_lens(str(folder), "cpu", request.param, threads=1)
    probe_checkpoint(lens, marked())
    return lens


def test_a_probe_card_names_number_format_device_and_versions(lens: Lens) -> None:
    made = ProbeSet.load(lens.checkpoint, "marked").fitted_with
    assert set(made) == KEYS
    assert made["dtype"] == lens.description["dtype"]
    assert made["device"] == "cpu"
    assert made["torch"] == version("torch")
    assert made["transformers"] == version("transformers")
    here = Path(__file__).parent
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False)
    assert (made["hormesis"] or "").startswith(git.stdout[:12].strip())
    card = json.loads(path_of(lens.checkpoint.folder, "marked").read_text())
    assert card["fitted_with"] == made


def test_the_summary_and_every_picture_say_so(lens: Lens) -> None:
    probes = ProbeSet.load(lens.checkpoint, "marked")
    dtype = lens.description["dtype"]
    assert f"{dtype} on cpu; torch {version('torch')}, transformers {version('transformers')}" in summary(probes)
    for picture in (Heatmap.of(probes), Heatmap.difference(probes, probes), HeadHistogram.of(probes)):
        made = json.loads(Image.open(io.BytesIO(picture.to_png())).text["hormesis"])["fitted_with"]
        assert {one["dtype"] for one in made} == {dtype}
    assert json.loads(Heatmap.of(probes).to_json())["fitted_with"] == [probes.fitted_with]
    assert f'""dtype"": ""{dtype}""' in Heatmap.of(probes).to_csv().decode()


def test_activations_and_fits_say_so_too(lens: Lens, tmp_path: Path) -> None:
    found = gather(lens, ["The people", "A garden"], [True, False], ["", ""])
    found.save(tmp_path / "activations")
    assert set(found.made_with) == KEYS
    assert Activations.load(tmp_path / "activations").made_with == found.made_with
    plan = P("mean-act", layers=(1,))
    fit(plan, lens, marked())
    card = json.loads(fit_path(lens.checkpoint.folder, plan).read_text())
    assert card["fitted_with"] == found.made_with


def test_cards_of_before_are_read_and_say_that_nothing_was_noted(lens: Lens) -> None:
    path = path_of(lens.checkpoint.folder, "marked")
    card, tensors = read(path)
    write(path.with_name("older.json"), {name: value for name, value in card.items() if name != "fitted_with"}, tensors)
    older = ProbeSet.load(lens.checkpoint, "older")
    assert older.fitted_with == {}
    assert "number format, device and versions are not noted" in summary(older)
    assert Heatmap.of(older).to_svg()
    for damaged in ("float32", 3, ["float32"]):
        write(path.with_name("damaged.json"), {**card, "fitted_with": damaged}, tensors)
        with pytest.raises(BrokenProbes):
            ProbeSet.load(lens.checkpoint, "damaged")
