"""A baked folder computes what the hooks do, at every position, in plain transformers, or it is not written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SENTENCES, tiny_config, tiny_tokenizer, write_tiny_olmo
from transformers import AutoTokenizer, OlmoForCausalLM

from lens import BrokenCheckpoint, Checkpoint, Head, Lens, open_lens
from probes.direction import Direction
from steering import Affine, Doses, Edit, Gate, Plan, Row, Sampling, Shifts, Site, Steering, cost, generate, hooked
from steering.bake import NotBaked, bake
from steering.methods import iti
from steering.steerer import steered

TEXT = "\n".join(SENTENCES)
AT_HEADS = Plan("act", where="heads")
ROUNDING = 1e-4
"""float32, sums in another order: 1e-5 was seen on logits of up to 7."""


def pushes(lens: Lens, *heads: str) -> Steering:
    """A plan fitted by hand: a push at each of some heads."""
    heads = heads or ("L0H1", "L2H0", "L2H3")
    units = torch.nn.functional.normalize(torch.randn(len(heads), 6, generator=torch.Generator().manual_seed(3)), dim=1)
    found = [Direction(Head.parse(head), unit, 0.3) for head, unit in zip(heads, units, strict=True)]
    return Steering(Plan(), lens.checkpoint.fingerprint, iti.edits(found, 4))


def maps(lens: Lens, plan: Plan = AT_HEADS, **changes: object) -> Steering:
    """A transport of one head and a projection that takes a direction out of another."""
    random = torch.Generator().manual_seed(5)
    u = torch.nn.functional.normalize(
        torch.cat([torch.zeros(12), torch.randn(6, generator=random), torch.zeros(6)]), dim=0
    )
    scaled, moved = torch.zeros(24), torch.zeros(24)
    scaled[:6], moved[:6] = torch.randn(6, generator=random), torch.randn(6, generator=random)
    transport = Edit("L1H0", Site(1, "heads"), Affine(moved, scaled))
    removal = Edit("L1H2", Site(1, "heads"), Affine(torch.zeros(24), None, -u[:, None], u[None]))
    return Steering(plan, lens.checkpoint.fingerprint, tuple(replace(e, **changes) for e in (transport, removal)))


MADE: dict[str, Callable[[Lens], Doses]] = {
    "pushes": lambda lens: pushes(lens).at(8),
    "maps": lambda lens: maps(lens).at(0.7),
    "both": lambda lens: pushes(lens).at(-6) + maps(lens).at(1) + pushes(lens, "L1H0").at(2),
}


@pytest.fixture(scope="module", params=MADE)
def baked(request: pytest.FixtureRequest, lens: Lens, tmp_path_factory: pytest.TempPathFactory) -> tuple[Doses, Lens]:
    """Doses, and the folder that they were baked into, open in Hormesis."""
    doses = MADE[request.param](lens)
    return doses, open_lens(bake(lens, doses, tmp_path_factory.mktemp("baked") / request.param, text=TEXT), "cpu")


def test_baked_logits_are_those_of_the_reference_road_at_every_position(lens: Lens, baked: tuple[Doses, Lens]) -> None:
    doses, child = baked
    for sentence in SENTENCES:
        tokens = torch.tensor([lens.encode(sentence)])
        with steered(lens, [doses], "all"):
            reference = lens.logits(tokens)
        torch.testing.assert_close(child.plain_logits(tokens), reference, rtol=0, atol=ROUNDING)
        torch.testing.assert_close(child.logits(tokens), reference, rtol=0, atol=ROUNDING)  # the bridge knows biases
        moved = (reference - lens.plain_logits(tokens)).abs().amax(dim=-1)
        assert (moved > 0.01).all(), "every position is steered, the first too"


def test_a_baked_folder_writes_what_steering_every_position_writes(lens: Lens, baked: tuple[Doses, Lens]) -> None:
    doses, child = baked
    everywhere = tuple(
        replace(d, steering=replace(d.steering, plan=replace(d.steering.plan, positions="all"))) for d in doses
    )
    sampling = Sampling(max_tokens=12)
    there = generate(lens, [Row(sentence, everywhere) for sentence in SENTENCES], sampling)
    here = generate(child, [Row(sentence) for sentence in SENTENCES], sampling)
    assert [text.tokens for text in here] == [text.tokens for text in there]
    plain = generate(lens, [Row(sentence) for sentence in SENTENCES], sampling)
    assert [text.tokens for text in here] != [text.tokens for text in plain]


def test_pushes_change_the_bias_alone_and_by_the_formula(lens: Lens, tmp_path: Path) -> None:
    doses = pushes(lens).at(8)
    child = open_lens(bake(lens, doses, tmp_path / "baked", text=TEXT), "cpu")
    before, after = lens.model.state_dict(), child.model.state_dict()
    for name, weight in after.items():
        if name in before:
            assert torch.equal(weight, before[name]), name
    for layer in range(3):
        attention = f"model.layers.{layer}.self_attn."
        assert not any(after[f"{attention}{projection}_proj.bias"].any() for projection in "qkv")
        W_O = before[f"{attention}o_proj.weight"].double().numpy()
        ours = [e.change.constant.double().numpy() for e in doses[0].steering.edits if e.site.layer == layer]
        asked = W_O @ (8 * np.sum(ours, axis=0)) if ours else np.zeros(24)
        np.testing.assert_allclose(after[f"{attention}o_proj.bias"].numpy(), asked, rtol=1e-6, atol=1e-7)


def with_biases(folder: Path) -> Path:
    """An OLMo that has attention biases already, and fewer key heads than query heads."""
    write_tiny_olmo(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = OlmoForCausalLM(tiny_config(attention_bias=True, num_key_value_heads=2))
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    return folder


def test_biases_that_are_there_stay(tmp_path: Path) -> None:
    parent = open_lens(Checkpoint.open(with_biases(tmp_path / "biased")), "cpu")
    doses = pushes(parent).at(5)
    child = open_lens(bake(parent, doses, tmp_path / "baked", text=TEXT), "cpu")
    for layer, other in zip(child.model.model.layers, parent.model.model.layers, strict=True):
        assert torch.equal(layer.self_attn.k_proj.bias, other.self_attn.k_proj.bias)
    tokens = torch.tensor([parent.encode(SENTENCES[2])])
    with hooked(parent, Shifts(parent, [doses]), "all"):
        asked = parent.plain_logits(tokens)
    torch.testing.assert_close(child.plain_logits(tokens), asked, rtol=0, atol=ROUNDING)
    assert (asked - parent.plain_logits(tokens)).abs().max() > 0.1


IN_PLAIN_TRANSFORMERS = """
import importlib.util, json, sys
assert not any(importlib.util.find_spec(name) for name in ("lens", "probes", "steering")), sys.path
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text = sys.argv[1:]
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
with torch.no_grad():
    print(json.dumps([ids.tolist(), model(ids).logits.tolist(), str(model.dtype)]))
"""


def test_it_opens_in_plain_transformers_in_a_process_without_hormesis(lens: Lens, tmp_path: Path) -> None:
    doses = MADE["both"](lens)
    bake(lens, doses, tmp_path / "baked", text=TEXT)
    command = [sys.executable, "-I", "-c", IN_PLAIN_TRANSFORMERS, str(tmp_path / "baked"), SENTENCES[0]]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    ids, logits, dtype = json.loads(ran.stdout)
    assert (ids, dtype) == ([lens.encode(SENTENCES[0])], "torch.float32")
    with hooked(lens, Shifts(lens, [doses]), "all"):
        asked = lens.plain_logits(torch.tensor(ids))
    torch.testing.assert_close(torch.tensor(logits), asked, rtol=0, atol=ROUNDING)


def test_the_card_says_whose_child_it_is_and_what_it_costs(lens: Lens, tmp_path: Path) -> None:
    doses = pushes(lens).at(8)
    child = bake(lens, doses, tmp_path / "calm", text=TEXT)
    (price,) = cost(lens, [doses], TEXT, window=64)
    card = child.card
    assert child.name == "calm"
    assert card["parent"] == {"name": "tiny", "fingerprint": lens.checkpoint.fingerprint}
    assert child.fingerprint != lens.checkpoint.fingerprint
    (dose,) = card["steering"]
    assert Plan.from_json(json.dumps(dose["plan"])) == Plan(positions="all")
    assert (dose["strength"], dose["edits"]) == (8, ["L0H1", "L2H0", "L2H3"])
    assert card["kl"]["value"] == pytest.approx(price.kl.value, abs=1e-6)
    assert card["kl"]["value"] > 0.001
    readme = (tmp_path / "calm" / "README.md").read_text()
    assert "every position, at 8 standard deviations: L0H1 L2H0 L2H3" in readme
    assert "Every position is steered, those of the prompt too." in readme
    assert f"KL(before ‖ now) in nats per token: {price.kl}" in readme
    assert {oct(file.stat().st_mode)[-3:] for file in child.folder.iterdir()} == {"644"}


def gated(lens: Lens) -> Steering:
    return maps(lens, replace(AT_HEADS, gate=0.5), gate=Gate(torch.ones(24), 0.0, 0.5))


REFUSED: dict[str, tuple[Callable[[Lens], Doses], str]] = {
    "residual": (lambda lens: maps(lens, Plan("act"), site=Site(1, "residual")).at(1), "neither bias nor matrix"),
    "gate": (lambda lens: gated(lens).at(1), "weights cannot choose"),
    "prefix": (
        lambda lens: Steering(Plan("prompting"), lens.checkpoint.fingerprint, prefix="Be kind. ").at(1),
        "no words",
    ),
    "among others": (lambda lens: pushes(lens).at(8) + gated(lens).at(1), "Bake it without a gate"),
    "strength 0": (lambda lens: pushes(lens).at(0), "nothing to bake"),
    "nothing": (lambda lens: (), "nothing to bake"),
    "another model's": (
        lambda lens: replace(pushes(lens), fingerprint="0" * 64).at(1),
        "was fitted to the weights 0000",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_weights_cannot_hold_is_refused_with_the_reason(lens: Lens, tmp_path: Path, why: str) -> None:
    made, sentence = REFUSED[why]
    with pytest.raises(ValueError, match=sentence):
        bake(lens, made(lens), tmp_path / "baked", text=TEXT)
    assert list(tmp_path.iterdir()) == []


def test_a_gate_that_gets_no_strength_is_no_obstacle(lens: Lens, tmp_path: Path) -> None:
    child = bake(lens, pushes(lens).at(8) + gated(lens).at(0), tmp_path / "baked", text=TEXT)
    assert len(child.card["steering"]) == 1


def test_an_existing_folder_stays_as_it_is(lens: Lens, tmp_path: Path) -> None:
    (tmp_path / "baked").mkdir()
    (tmp_path / "baked" / "notes.txt").write_text("mine")
    with pytest.raises(NotBaked, match="is there already"):
        bake(lens, pushes(lens).at(8), tmp_path / "baked", text=TEXT)
    assert [file.name for file in (tmp_path / "baked").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["pushes", "maps"])
def test_weights_that_miss_are_not_kept(lens: Lens, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["steering.bake"]
    write = module._write_model

    def spoilt(lens: Lens, weights: dict[str, torch.Tensor], folder: Path) -> None:
        o = "model.layers.1.self_attn.o_proj.weight" if name == "maps" else "model.layers.2.self_attn.o_proj.bias"
        write(lens, {**weights, o: weights[o] * 1.001}, folder)

    monkeypatch.setattr(module, "_write_model", spoilt)
    with pytest.raises(NotBaked, match="logits miss the steered model's by"):
        bake(lens, MADE[name](lens), tmp_path / "baked", text=TEXT)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Lens:
    """A checkpoint whose file holds bfloat16, open as float32: the same numbers."""
    folder = tmp_path_factory.mktemp("coarse")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        OlmoForCausalLM(tiny_config()).to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return open_lens(Checkpoint.open(folder), "cpu", "float32")


def test_in_bfloat16_only_the_pushes_are_rounded(coarse: Lens, tmp_path: Path) -> None:
    doses = pushes(coarse).at(8)
    whole, rounded = (
        open_lens(bake(coarse, doses, tmp_path / dtype, dtype, TEXT), "cpu", "float32")
        for dtype in ("float32", "bfloat16")
    )
    assert json.loads((tmp_path / "bfloat16" / "config.json").read_text())["dtype"] == "bfloat16"
    fine, coarser = whole.model.state_dict(), rounded.model.state_dict()
    for name, weight in fine.items():
        assert torch.equal(coarser[name], weight.bfloat16().float() if name.endswith("o_proj.bias") else weight)
    assert any(not torch.equal(coarser[name], weight) for name, weight in fine.items())


def test_a_push_that_is_off_by_more_than_rounding_is_refused(
    coarse: Lens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["steering.bake"]
    weights = module.baked_weights

    def spoilt(*asked: object) -> dict[str, torch.Tensor]:
        return {name: w * (1.02 if name.endswith("o_proj.bias") else 1) for name, w in weights(*asked).items()}

    monkeypatch.setattr(module, "baked_weights", spoilt)
    with pytest.raises(NotBaked, match=r"push of layer 0, heads was not written as asked"):
        bake(coarse, pushes(coarse).at(8), tmp_path / "baked", "bfloat16", TEXT)


def test_what_bfloat16_cannot_hold_is_refused(lens: Lens, coarse: Lens, tmp_path: Path) -> None:
    for parent, doses in ((lens, pushes(lens).at(8)), (coarse, maps(coarse).at(1))):
        with pytest.raises(NotBaked, match="Bake as float32"):
            bake(parent, doses, tmp_path / "baked", "bfloat16", TEXT)
    with pytest.raises(NotBaked, match="'int8' is no dtype of ours"):
        bake(lens, pushes(lens).at(8), tmp_path / "baked", "int8", TEXT)
    assert list(tmp_path.iterdir()) == []


def test_a_lens_that_computes_in_bfloat16_bakes_the_file_s_own_numbers(lens: Lens, tmp_path: Path) -> None:
    """The tiny file holds float32; a lens in bfloat16 has lost most of each number."""
    rough = open_lens(lens.checkpoint, "cpu", "bfloat16")
    child = open_lens(bake(rough, pushes(lens).at(8), tmp_path / "baked", text=TEXT), "cpu")
    assert torch.equal(child.model.model.layers[0].mlp.up_proj.weight, lens.model.model.layers[0].mlp.up_proj.weight)


def test_the_tokenizer_goes_along_as_it_was_or_is_completed(lens: Lens, tmp_path: Path) -> None:
    files = ("tokenizer.json", "tokenizer_config.json")
    child = bake(lens, pushes(lens).at(8), tmp_path / "baked", text=TEXT).folder
    for file in files:
        assert (child / file).read_bytes() == (lens.checkpoint.folder / file).read_bytes()
    (child / files[1]).unlink()  # some folders hold no more than the vocabulary
    parent = open_lens(Checkpoint.open(child), "cpu")
    grandchild = bake(parent, pushes(parent).at(8), tmp_path / "again", text=TEXT).folder
    assert json.loads((grandchild / files[1]).read_text())["eos_token"] == "<|endoftext|>"


def append_end_of_text(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    end, sequences = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, ("A", "B")
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in sequences)
    token = {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}
    template = {"single": [one, end], "pair": [one, two, end], "special_tokens": {"<|endoftext|>": token}}
    content["post_processor"] = {"type": "TemplateProcessing", **template}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def test_a_baked_folder_tokenises_like_hormesis_where_its_parent_appends_an_end_of_text(
    lens: Lens, tmp_path: Path
) -> None:
    parent = shutil.copytree(lens.checkpoint.folder, tmp_path / "parent")
    append_end_of_text(parent)
    assert AutoTokenizer.from_pretrained(parent)("The people")["input_ids"][-1] == 0
    opened = open_lens(str(parent), "cpu")
    child = bake(opened, pushes(opened).at(8), tmp_path / "baked", text=TEXT).folder
    for text in SENTENCES[:2]:
        assert AutoTokenizer.from_pretrained(child)(text)["input_ids"] == lens.encode(text)
        assert open_lens(str(child), "cpu").encode(text) == lens.encode(text)


def test_a_baked_folder_names_its_weights_so_that_a_flipped_bit_is_found(lens: Lens, tmp_path: Path) -> None:
    child = bake(lens, pushes(lens).at(8), tmp_path / "baked", text=TEXT).folder
    weights = child / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BrokenCheckpoint, match="not those that its checkpoint"):
        open_lens(str(child), "cpu")


def test_steering_too_weak_to_be_seen_is_not_baked(lens: Lens, tmp_path: Path) -> None:
    with pytest.raises(NotBaked, match="moves no logit by more than"):
        bake(lens, pushes(lens).at(1e-5), tmp_path / "weak", text=TEXT)
    assert list(tmp_path.iterdir()) == []
