"""What act, mean-act and leace learn, from which texts, and how it is kept; what sigma is measured on."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import spoil, write_tiny_olmo
from marked import P, marked, marked_lens

from lens import Checkpoint, Head, Lens, NotEnoughMemory, open_lens
from probes import NoProbes, ProbeSet, TextSet, builtin, probe_checkpoint
from steering import Edit, fit
from steering.__main__ import main
from steering.methods import sequence, transport
from steering.methods.units import units_of
from steering.store import NoFit, path_of


@pytest.fixture(scope="module")
def lens(tmp_path_factory: pytest.TempPathFactory) -> Lens:
    return marked_lens(tmp_path_factory.mktemp("fitted") / "tiny")


def copied(lens: Lens, folder: Path) -> Lens:
    """The same model in a folder of its own."""
    shutil.copytree(lens.checkpoint.folder, folder)
    shutil.rmtree(folder / "steering", ignore_errors=True)
    return Lens(Checkpoint.open(folder), lens.model, lens.tokenizer)


def test_sigma_may_come_from_other_texts(lens: Lens) -> None:
    own, others = (fit(P("iti", heads=3, sigma_from=name), lens) for name in (None, "others"))
    covariance = ProbeSet.load(lens.checkpoint, "others").heads.covariance.double()
    for edit, other in zip(own.edits, others.edits, strict=True):
        head = Head.parse(edit.name)
        unit = torch.nn.functional.normalize(edit.change.constant, dim=0)
        part = unit.view(lens.grid.n_heads, -1)[head.index].double()
        sigma = (part @ covariance[head.layer, head.index] @ part).sqrt()
        torch.testing.assert_close(other.change.constant, sigma.float() * unit, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(other.change.constant, edit.change.constant, rtol=0.01)
    with pytest.raises(NoProbes, match="has no probes 'nowhere'"):
        fit(P("iti", sigma_from="nowhere"), lens)


def test_a_receipt_tells_apart_what_sigma_was_measured_on(lens: Lens, tmp_path: Path) -> None:
    own, plan = copied(lens, tmp_path / "own"), P("iti", heads=3, sigma_from="others")
    before = fit(plan, own).fitted_on
    assert before != fit(replace(plan, sigma_from=None), own).fitted_on
    probe_checkpoint(own, TextSet("others", builtin().texts[:30]), overwrite=True)
    assert fit(plan, own).fitted_on != before


def test_a_receipt_tells_apart_words_that_a_card_put_in_front(lens: Lens, tmp_path: Path) -> None:
    own = copied(lens, tmp_path / "own")
    card = own.checkpoint.folder / "checkpoint.json"
    card.write_text(card.read_text().replace("0.00", "0.01"))
    again = Lens(Checkpoint.open(own.checkpoint.folder), own.model, own.tokenizer)
    assert fit(P("prefix"), own).prefix != fit(P("prefix"), again).prefix
    assert fit(P("prefix"), own).fitted_on != fit(P("prefix"), again).fitted_on


def test_transport_finds_a_planted_line_and_leaves_still_units_alone() -> None:
    rng = np.random.default_rng(0)
    toxic = torch.from_numpy(rng.normal(2.0, 3.0, size=(600, 4)))
    benign = torch.from_numpy(rng.normal(-1.0, 1.5, size=(400, 4)))
    toxic[:, 3], benign[:, 2] = 0.1 + 1e-9 * toxic[:, 3], 0.1
    x, labels = torch.cat([benign, toxic]), torch.arange(1000) >= 400
    change = transport.linear_act(x, labels)
    assert change.scale is not None
    assert change.scale[:2].tolist() == pytest.approx([-0.5, -0.5], abs=0.06)  # 1.5 / 3 - 1
    assert change.constant[:2].tolist() == pytest.approx([-2, -2], abs=0.3)  # -1 - 2 / 2
    assert change.scale[2:].tolist() == change.constant[2:].tolist() == [0, 0]
    there = x[labels] + change(x[labels])
    torch.testing.assert_close(there.mean(0)[:2], x[~labels].mean(0)[:2])  # the means meet
    mean = transport.mean_act(x, labels)
    torch.testing.assert_close(mean.constant[:2], (benign.mean(0) - toxic.mean(0))[:2])
    assert mean.constant[2:].tolist() == [0, 0]
    assert mean.is_constant


def test_equally_many_texts_are_paired_in_order() -> None:
    x = torch.tensor([[3.0], [1.0], [2.0], [10.0], [14.0], [12.0]], dtype=torch.float64)
    change = transport.linear_act(x, torch.arange(6) < 3)
    assert change(x[:3]).flatten().tolist() == pytest.approx([11, 9, 10])  # 3 → 14, 1 → 10, 2 → 12


@pytest.mark.parametrize("method", ["act", "mean-act", "leace"])
def test_a_fit_is_kept_and_found_again_without_the_texts(
    lens: Lens, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    plan = P(method, layers=(0, 2))
    made = fit(plan, lens, marked())
    monkeypatch.setattr(sys.modules["steering.methods.fitting"], "fit_in_sequence", None)  # no second fit
    kept = fit(replace(plan, gate=0.6, seed=4, where="residual"), lens)
    assert [edit.name for edit in kept.edits] == ["L0", "L2"]
    for one, other in zip(made.edits, kept.edits, strict=True):
        assert (one.site, one.gate) == (other.site, None)
        assert other.gate is not None
        assert other.gate.threshold == 0.6
        x = torch.randn(3, lens.d_model)
        assert torch.equal(one.change(x), other.change(x))


def test_a_folder_that_cannot_be_written_is_steered_and_left_as_it_is(
    lens: Lens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a read-only disk says; the tests' own user may write everywhere."""
    own, texts = copied(lens, tmp_path / "own"), ["--texts", str(tmp_path / "marked.jsonl")]
    rows = [{"text": one.text, "label": "toxic" if one.label else "benign"} for one in marked().texts]
    (tmp_path / "marked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).startswith(str(tmp_path / "own")))
    assert fit(P("leace", layers=(1,)), own, marked()).edits[0].name == "L1"
    argv = ["steering", "fit", str(tmp_path / "own"), "--method", "leace", "--probes", "marked", *texts]
    monkeypatch.setattr(sys, "argv", argv)
    with pytest.raises(SystemExit, match=r"/own cannot be written, so no fit can be kept there\. Copy it first\."):
        main()
    assert not (tmp_path / "own" / "steering").exists()


def test_without_a_fit_or_its_texts_the_sentence_has_the_command(lens: Lens, tmp_path: Path) -> None:
    bare = copied(lens, tmp_path / "a b")
    plan = P("leace", where="heads", heads="L0H1 L1H0", positions="all")
    with pytest.raises(NoFit, match="has no fit of LEACE, heads L0H1 L1H0, probes marked, every position yet") as error:
        fit(plan, bare)
    words = shlex.split(str(error.value).split("probes: ")[-1])
    assert words[:5] == ["python", "-m", "steering", "fit", str(tmp_path / "a b")]
    assert words[5:9] == ["--method", "leace", "--probes", "marked"]
    assert words[9:] == ["--where", "heads", "--heads", "L0H1 L1H0", "--positions", "all", "--texts", "FILE"]


def test_other_texts_than_those_of_the_probes_are_refused(lens: Lens) -> None:
    others = replace(marked(), texts=marked().texts[1:])
    with pytest.raises(ValueError, match="are not those that the probes 'marked' of tiny were fitted to"):
        fit(P("leace"), lens, others)


def test_a_stale_or_damaged_fit_is_refused_and_mended_by_the_texts(lens: Lens, tmp_path: Path) -> None:
    own, plan = copied(lens, tmp_path / "own"), P("mean-act", layers=(1,))
    (whole,) = fit(plan, own, marked()).edits
    path = path_of(own.checkpoint.folder, plan)
    tensors = path.with_suffix(".safetensors")
    data = tensors.read_bytes()
    tensors.write_bytes(data[:-4])
    with pytest.raises(NoFit, match=r"is damaged: .*Fit it to the texts of its probes: python -m steering fit"):
        fit(plan, own)
    tensors.write_bytes(data.replace(own.checkpoint.fingerprint.encode(), b"0" * 64))
    with pytest.raises(NoFit, match="came from other weights, another config or another tokenizer"):
        fit(plan, own)
    (again,) = fit(plan, own, marked()).edits
    assert torch.equal(again.change.constant, whole.change.constant)
    assert fit(plan, own).edits[0].name == "L1"
    assert json.loads(path.read_text())["plan"] == json.loads(plan.to_json()) | {"where": "residual"}
    probe_checkpoint(own, marked(), seed=1)  # other texts are held out now
    with pytest.raises(NoFit, match="held-out texts than the probes 'marked' of own have now"):
        fit(plan, own)


def fitted(
    lens: Lens, on_progress: Callable[[int, int], None] | None = None, probed: Lens | None = None
) -> tuple[Edit, ...]:
    """Two layers, by hand; `probed`: the lens whose probes name them, if it is another one."""
    texts, plan = marked().texts[:40], P("act", layers=(0, 1))
    words, labels = [text.text for text in texts], torch.tensor([text.label for text in texts])
    units = units_of(plan, ProbeSet.load((probed or lens).checkpoint, "marked"))
    return sequence.fit_in_sequence(lens, words, labels, units, transport.linear_act, plan, on_progress)


def test_small_batches_fit_the_same_and_say_how_far_they_are(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, heard = fitted(lens), []
    monkeypatch.setattr("lens.activations.CPU_BATCH", 100)
    for one, other in zip(at_once, fitted(lens, lambda *now: heard.append(now)), strict=True):
        for part in ("constant", "scale"):  # float32, sums in another order
            torch.testing.assert_close(getattr(one.change, part), getattr(other.change, part), rtol=0, atol=1e-4)
    assert len(heard) > 10
    assert heard == sorted(heard)
    assert (heard[-1], {total for _, total in heard}) == ((80, 80), {80})


def test_texts_that_do_not_fit_into_memory_are_refused(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "free_bytes", lambda device: 1000.0)
    with pytest.raises(NotEnoughMemory, match=r"holds every token of the texts at once: .* Use a smaller set"):
        fitted(lens)


def test_activations_that_are_no_numbers_are_refused(lens: Lens, tmp_path: Path) -> None:
    folder = spoil(write_tiny_olmo(tmp_path / "spoilt"), "model.layers.0.mlp.down_proj.weight")
    with pytest.raises(ValueError, match="layer 0, residual are not numbers"):
        fitted(open_lens(str(folder), "cpu", "float32", threads=1), probed=lens)
