"""What a run leaves behind: kept steps, held-out curves, and a sentence and a whole save when it cannot go on."""

import base64
import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made import RECIPE, again, made
from safetensors.torch import save_file

from lens import BrokenCheckpoint, open_lens
from lens.checkpoint import Catalogue, Checkpoint
from training.conduct import Conduct
from training.export import ExportError, export, held_out
from training.recipe import RECIPES
from training.run import Run, RunChanged, UnsafeStep, journal, newest_whole_step, note, step_folder, steps

pytest.importorskip("olmo", reason="ai2-olmo needs numpy 1, which this Python has no wheels for")

ONE = Conduct(threads=1, evaluations=4)


def pretrain(folder: Path, conduct: Conduct = ONE) -> Path:
    from training.pretrain import pretrain

    return pretrain(folder, conduct)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20 steps that kept every eighth."""
    run = made(tmp_path_factory.mktemp("trained") / "tiny-10", 20)
    pretrain(run, replace(ONE, keep_every=8))
    return run


def test_kept_steps_become_checkpoints_of_their_own(trained: Path, tmp_path: Path) -> None:
    assert list(steps(trained)) == [8, 16, 19, 20], "the kept ones and the last two"
    assert not (steps(trained)[8] / "optim.pt").exists(), "kept for export alone"
    for step in (None, 8, 16):
        export(trained, tmp_path, step)
    catalogue = Catalogue(tmp_path)
    assert catalogue.names == ["tiny-10@8", "tiny-10@16", "tiny-10"], "in the order of training"
    early, late = catalogue["tiny-10@8"], catalogue["tiny-10"]
    assert (early.card["step"], early.n_tokens, late.n_tokens) == (8, 8 * 64, 20 * 64)
    assert early.fingerprint != late.fingerprint
    with pytest.raises(ExportError, match=r"no whole step 9. Steps there: 8, 16, 19, 20"):
        export(trained, tmp_path, 9)
    with pytest.raises(ExportError, match=r"no whole step yet. Train it first: python -m training pretrain .*early$"):
        export(made(tmp_path / "early", 2), tmp_path)


@pytest.mark.parametrize("card", [None, "{}", "family", "mix"])
def test_an_export_replaces_no_folder_but_its_own(trained: Path, tmp_path: Path, card: str | None) -> None:
    """Not somebody's folder of that name, and not a checkpoint of another family that is called the same."""
    theirs = tmp_path / "tiny-10"
    if card in ("family", "mix"):
        known = json.loads((export(trained, tmp_path) / "checkpoint.json").read_text())
        (theirs / "checkpoint.json").write_text(json.dumps(known | {card: {"clean_tokens": 3}}))
    else:
        theirs.mkdir()
        (theirs / ("thesis.txt" if card is None else "checkpoint.json")).write_text(card or "years of work")
    before = {path.name: path.read_bytes() for path in theirs.iterdir()}
    with pytest.raises(ExportError, match=r"tiny-10 is there already, and it was not exported from this run"):
        export(trained, tmp_path)
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == before


def test_an_export_again_keeps_what_else_lies_there(trained: Path, tmp_path: Path) -> None:
    folder = export(trained, tmp_path, 8)
    (folder / "notes.txt").write_text("mine")
    (folder / "model-00001-of-00002.safetensors").write_text("of an export in two files")
    assert export(trained, tmp_path, 8) == folder
    assert (folder / "notes.txt").read_text() == "mine"
    assert not (folder / "model-00001-of-00002.safetensors").exists()
    assert Checkpoint.open(folder).card["step"] == 8


@pytest.mark.parametrize("kind", ["probes", "steering"])
def test_an_export_again_keeps_what_was_fitted_meanwhile(trained: Path, tmp_path: Path, kind: str) -> None:
    fitted = export(trained, tmp_path, 8) / kind / "mine.json"
    fitted.parent.mkdir()
    fitted.write_text("{}")
    assert export(trained, tmp_path, 8) / kind / "mine.json" == fitted
    assert fitted.read_text() == "{}"


def test_the_held_out_curve_ends_where_the_exported_model_is(trained: Path, tmp_path: Path) -> None:
    """Two roads to one number: the Trainer's evaluation, and transformers' model on the same chunks."""
    curve = journal(trained, "held_out")
    assert [entry["step"] for entry in curve] == [5, 10, 15, 20]
    card = Checkpoint.open(export(trained, tmp_path)).card
    for kind in ("clean", "toxic"):
        assert curve[-1]["held_out"][kind] == pytest.approx(card["nats_per_token"][kind]["float32"], abs=1e-5)
    assert len(held_out(trained, "toxic")) == 3
    assert card["held_out_curve"][-1]["step"] == 20
    [sitting] = card["sittings"]
    assert (sitting["processes"], sitting["threads"], sitting["strategy"]) == (1, 1, "ddp")
    assert str(trained.parent) not in json.dumps(card)


def test_a_run_that_is_done_is_left_alone(trained: Path) -> None:
    before = (trained / "metrics.jsonl").read_text()
    assert pretrain(trained) == steps(trained)[20]
    assert (trained / "metrics.jsonl").read_text() == before


def test_text_that_is_gone_through_again_is_trained_on_to_the_end_of_the_order(tmp_path: Path) -> None:
    """The order is longer than its text; OLMo's dataset knows the latter's length alone."""
    run = made(tmp_path / "again", 20, passes=4)
    pretrain(run)
    assert list(steps(run))[-1] == 20


def test_other_settings_or_other_text_are_refused_with_the_difference(trained: Path, tmp_path: Path) -> None:
    settings = Run.read(trained)
    with pytest.raises(RunChanged, match=r"\(name: tiny-10 → tiny-20\)"):
        replace(settings, name="tiny-20").write(trained)
    with pytest.raises(RunChanged, match=r"learning_rate: 0.01 → 0.5"):
        replace(settings, recipe=replace(RECIPE, learning_rate=0.5)).write(trained)
    run = made(tmp_path / "run", 2, seed=1)
    token_file = Path(Run.read(run).files[0])
    ids = np.fromfile(token_file, dtype="<u2")
    (ids + 1).astype("<u2").tofile(token_file)
    with pytest.raises(RunChanged, match=rf"{re.escape(str(token_file))} is gone or holds other tokens"):
        pretrain(run)
    ids.tofile(token_file)
    (run / "chunks.u4").write_bytes((run / "chunks.u4").read_bytes()[::-1])
    with pytest.raises(RunChanged, match="not the order"):
        pretrain(run)


def test_a_loss_that_is_no_number_ends_the_run_with_the_last_save_whole(tmp_path: Path) -> None:
    run = made(tmp_path / "wild", 30, replace(RECIPE, learning_rate=1e25))
    with pytest.raises(Exception, match=r"not a number any more\. The last whole save is .*step\d+-unsharded"):
        pretrain(run)
    newest = newest_whole_step(run)
    assert newest is not None
    weights = torch.load(newest / "model.pt", weights_only=True)
    assert all(weight.isfinite().all() for weight in weights.values())


def test_a_disk_that_refuses_leaves_the_last_save_and_says_so(trained: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the system refuses the write itself."""
    run = again(trained, tmp_path / "full")
    command = [sys.executable, "-m", "training", "pretrain", str(run), "--threads", "1"]
    limit = (steps(trained)[20] / "optim.pt").stat().st_size - 1

    def tight() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    ended = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, preexec_fn=tight, check=False
    )
    assert ended.returncode == 1
    assert "Step 1 could not be saved" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(run.glob("step*")), "the space is given back"
    pretrain(run)


def test_too_little_space_is_said_before_training_begins(tmp_path: Path) -> None:
    """A run whose saves would need more than any disk has."""
    from training.pretrain import Stopped, check_space

    (tmp_path / "run").mkdir()
    with pytest.raises(Stopped, match=r"needs \d+\.\d GB for its saves and the disk has"):
        check_space(tmp_path / "run", 10**15, 2)
    check_space(tmp_path / "run", 1, 2)


def test_weights_and_biases_logs_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = made(tmp_path / "logged", 10)
    pretrain(run, replace(ONE, wandb="hormesis"))
    [log] = (run / "wandb").glob("offline-run-*/*.wandb")
    assert b"CrossEntropyLoss" in log.read_bytes()


def test_the_width_of_the_1b_recipe_trains_exports_and_opens_in_the_lens(tmp_path: Path) -> None:
    """Two of its sixteen layers, two steps: 237 million parameters."""
    from lens import open_lens

    wide = replace(RECIPES["1b"], n_layers=2, context=16, batch_chunks=2)
    assert RECIPES["1b"].n_parameters == 1_176_764_416
    run = made(tmp_path / "wide", 2, wide)
    pretrain(run, replace(ONE, evaluations=1, keep_last=1))
    lens = open_lens(str(export(run, tmp_path / "out")))
    assert (lens.grid.n_layers, lens.grid.n_heads, lens.d_model) == (2, 16, 2048)
    assert lens.plain_logits(*lens.pad([[5, 6, 7]])).shape == (1, 3, 50_304)


@pytest.mark.parametrize(
    ("n_steps", "keep_every", "every"), [(1000, None, 20), (1000, 400, 20), (20_177, 5000, 250), (20, 8, 1), (90, 1, 1)]
)
def test_kept_steps_are_among_the_saved_ones(n_steps: int, keep_every: int | None, every: int) -> None:
    from training.config import save_every

    assert save_every(n_steps, keep_every) == every
    assert (keep_every or every) % every == 0


def test_steps_that_would_be_saved_too_often_are_refused_with_others() -> None:
    from training.config import save_every

    with pytest.raises(ValueError, match=r"To keep every 401 steps .* would save every 1.* Keep every 400, say"):
        save_every(1000, 401)


def test_what_was_noted_behind_the_save_that_a_run_went_on_from_is_forgotten(tmp_path: Path) -> None:
    for entry in (
        {"step": 1, "loss": 5.0},
        {"step": 9, "loss": 4.0},
        {"step": 2, "sitting": {}},
        {"step": 3, "loss": 4.5},
    ):
        note(tmp_path, entry)
    (tmp_path / "metrics.jsonl").open("a").write('{"step": 4, "lo')  # a kill in the middle of a line
    note(tmp_path, {"step": 5, "loss": 4.2})
    assert [entry["step"] for entry in journal(tmp_path)] == [1, 3, 5]


def test_command_line_options_are_the_conduct(tmp_path: Path) -> None:
    """What a family passes on to its training processes is what they read."""
    import tyro

    conduct = Conduct(2, "fsdp", 4, 3, 100, 7, "project", 60)
    assert tyro.cli(Conduct, args=conduct.arguments()) == conduct
    assert tyro.cli(Conduct, args=Conduct().arguments()) == Conduct()
    with pytest.raises(ValueError, match="keep_last must be at least 1"):
        Conduct(keep_last=0)
    assert os.environ.get("RANK") is None


def interrupted(trained: Path, folder: Path) -> Path:
    """A copy of the run without its last step; the newest step that is left."""
    shutil.copytree(trained, folder)
    shutil.copy(trained.parent / "tokenizer.json", folder.parent)
    shutil.rmtree(step_folder(folder, 20))
    newest = newest_whole_step(folder)
    assert newest is not None
    return newest


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["model", "optim", "train", "other"])
def test_a_planted_safetensors_file_is_refused_before_its_keys_are_unpickled(
    trained: Path, tmp_path: Path, name: str
) -> None:
    step, mark = interrupted(trained, tmp_path / "run"), tmp_path / "code ran"
    key = base64.urlsafe_b64encode(pickle.dumps(Bomb(mark))).decode()
    save_file({key: torch.zeros(1)}, step / f"{name}.safetensors")
    with pytest.raises(UnsafeStep, match=rf"holds {name}\.safetensors, which training does not write"):
        pretrain(step.parent)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["model.pt", "optim.pt", "train.pt"])
def test_a_pickle_that_would_run_code_is_refused_in_a_sentence(trained: Path, tmp_path: Path, name: str) -> None:
    step, mark = interrupted(trained, tmp_path / "run"), tmp_path / "code ran"
    torch.save({"state": Bomb(mark)}, step / name)
    with pytest.raises(UnsafeStep, match=r"cannot be read .* Remove this folder to go on from the step before"):
        pretrain(step.parent)
    assert not mark.exists()
    if name == "model.pt":
        with pytest.raises(ExportError, match="cannot be read"):
            export(step.parent, tmp_path / "out")
        assert not mark.exists()


def test_a_folder_that_is_named_like_a_step_by_mistake_is_no_step(trained: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(trained, tmp_path / "run")
    for name in ("stepx-unsharded", "step-unsharded", "step99999999999999999999-unsharded"):
        shutil.copytree(step_folder(folder, 20), folder / name)
    assert list(steps(folder)) == list(steps(trained))


def test_an_export_names_its_weights_so_that_a_flipped_bit_is_found(trained: Path, tmp_path: Path) -> None:
    folder = export(trained, tmp_path)
    open_lens(str(folder), "cpu")
    content = bytearray((folder / "model.safetensors").read_bytes())
    for place in np.random.default_rng(0).integers(len(content) // 2, len(content), size=5):
        content[place] ^= 1
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(BrokenCheckpoint, match="not those that its checkpoint"):
            open_lens(str(folder), "cpu")
        content[place] ^= 1
