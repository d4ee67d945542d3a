"""A checkpoint is whole or says which file is not."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lens import BrokenCheckpoint, Catalogue, Checkpoint, NoSuchCheckpoint, find, open_lens, write_atomically


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
    assert checkpoint.name == "elsewhere"  # as its user calls it
    assert (checkpoint.toxic_share, checkpoint.share_of, checkpoint.seed) == (0.05, "total", 1)
    assert checkpoint.n_tokens == 8_500_000


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


CASES = {
    "toxic_share": ["10 %", -0.1, True, [0.1], {"of": 1}, 10, "1e999"],
    "share_of": ["parts", 5],
    "seed": ["x", 0.5, [0], 10**40],
    "n_tokens": ["many", -1, 1.5],
    "step": ["last", [1]],
    "family": [5, "", "two\nlines", "half \ud800", "x" * 300],
    "name": [5, {}],
    "mix": ["half", [1]],
    "weights_sha256": ["short", 5],
    "held_out_text": ["text", {"file": 5}],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in CASES for value in CASES[field]])
def test_a_card_s_field_of_another_type_makes_that_folder_unavailable(
    tiny_folder: Path, tmp_path: Path, field: str, value: object
):
    with_card(tiny_folder, tmp_path / "odd", **{field: value})
    with_card(tiny_folder, tmp_path / "whole", toxic_share=0.1, seed=None, share_of=None)
    catalogue = Catalogue(tmp_path)
    assert catalogue.names == ["whole"]
    assert field in catalogue.broken["odd"]
    assert "checkpoint.json" in catalogue.broken["odd"]
    catalogue.broken["odd"].encode()


@pytest.mark.parametrize("name", ["checkpoint.json", "config.json", "generation_config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a":' * 100_000, "NaN", '{"a": NaN}', '{"a": 1, "a": 2}', "\0", ""]
)
def test_json_that_is_none_is_said_in_a_sentence(folder: Path, name: str, content: str):
    (folder / name).write_text(content)
    with pytest.raises(BrokenCheckpoint, match=name.replace(".", r"\.")) as refused:
        open_lens(Checkpoint.open(folder), "cpu")
    assert len(str(refused.value)) < 500


def as_pipe(path: Path) -> None:
    os.mkfifo(path)


def as_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "checkpoint.json"])
@pytest.mark.parametrize(
    "put",
    [
        as_pipe,
        as_socket,
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/dev/stdin"),
        lambda path: path.symlink_to(path.parent),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to("/proc/kmsg"),
    ],
)
def test_what_is_no_plain_file_makes_the_folder_unavailable_and_nothing_waits(
    folder: Path, name: str, put: Callable[[Path], object]
):
    (folder / name).unlink(missing_ok=True)
    put(folder / name)
    catalogue = Catalogue(folder.parent)
    assert catalogue.names == []
    assert name in catalogue.broken[folder.name]


def test_a_link_to_a_plain_file_is_as_good_as_the_file(folder: Path, tmp_path: Path):
    whole = Checkpoint.open(folder).fingerprint
    for path in list(folder.iterdir()):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    assert Checkpoint.open(folder).fingerprint == whole


@pytest.mark.wrong_types
def test_a_broken_or_unknown_name_is_not_in_the_catalogue_and_nothing_raises(tiny_folder: Path, tmp_path: Path):
    truncate(shutil.copytree(tiny_folder, tmp_path / "half"))
    shutil.copytree(tiny_folder, tmp_path / "whole")
    catalogue = Catalogue(tmp_path)
    assert "whole" in catalogue
    for name in ("half", "nowhere", 5, None, ["whole"]):
        assert name not in catalogue
        assert catalogue.get(name) is None
        assert catalogue.get(name, 7) == 7
    assert list(catalogue) == catalogue.names == ["whole"]
    with pytest.raises(NoSuchCheckpoint):
        catalogue[["whole"]]  # type: ignore[index]


def test_a_catalogue_of_what_is_no_folder_or_cannot_be_read_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("words")
    assert Catalogue(tmp_path / "file").names == Catalogue(tmp_path / "nowhere").names == []

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)  # tests may run as root, who may read everything
    catalogue = Catalogue(tmp_path)
    assert (catalogue.names, list(catalogue.broken)) == ([], [tmp_path.name])
    assert "Permission denied" in catalogue.broken[tmp_path.name]


def test_a_folder_whose_name_no_page_can_show_is_unavailable(tiny_folder: Path, tmp_path: Path):
    for name in (b"caf\xe9", b"two\nlines"):
        shutil.copytree(tiny_folder, Path(os.fsdecode(bytes(tmp_path) + b"/" + name)))
    shutil.copytree(tiny_folder, tmp_path / "naïve ∞")
    catalogue = Catalogue(tmp_path)
    assert catalogue.names == ["naïve ∞"]
    for name, reason in catalogue.broken.items():
        assert "Rename it" in reason
        f"{name} {reason}".encode()


def test_the_user_s_name_of_a_folder_is_its_name_everywhere(tiny_folder: Path, tmp_path: Path):
    snapshot = tmp_path / "hub" / "models--allenai--OLMo-tiny-hf" / "snapshots" / "0123abcd"
    with_card(tiny_folder, snapshot, name="as-exported")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "OLMo-tiny").symlink_to(snapshot)
    catalogue = Catalogue(tmp_path / "mine")
    assert catalogue.names == ["OLMo-tiny"]
    assert catalogue["OLMo-tiny"].name == find(str(tmp_path / "mine" / "OLMo-tiny")).name == "OLMo-tiny"
    assert open_lens(str(tmp_path / "mine" / "OLMo-tiny"), "cpu").checkpoint.name == "OLMo-tiny"
    assert Checkpoint.open(snapshot).name == "OLMo-tiny-hf"  # not the commit


def test_a_folder_has_a_name_also_from_inside(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder / "sub")
    assert find("..").name == folder.name
    monkeypatch.chdir(folder)
    assert find(".").name == folder.name


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 10**30},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": 2.5},
        {"num_hidden_layers": "3"},
        {"vocab_size": 10**12},
        {"hidden_size": 0},
        {"hidden_size": 26},
        {"hidden_size": 10**11},
        {"num_attention_heads": 5},
        {"num_attention_heads": 8},
        {"num_key_value_heads": 3},
        {"intermediate_size": -1},
        {"max_position_embeddings": 10**9},
        {"head_dim": 12},
        {"clip_qkv": -1},
        {"clip_qkv": "8"},
        {"rope_theta": 0, "rope_parameters": None},
        {"rope_parameters": {"rope_type": "default", "rope_theta": "many"}},
        {"rope_parameters": [1]},
        {"hidden_act": "os.system"},
        {"attention_bias": True},
        {"attention_bias": "no"},
        {"tie_word_embeddings": False},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
    ],
)
def test_a_config_is_compared_with_the_weights_before_anything_is_built(folder: Path, changes: dict[str, object]):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    started = time.monotonic()
    with pytest.raises(BrokenCheckpoint, match=r"config\.json"):
        Checkpoint.open(folder)
    assert time.monotonic() - started < 1


def sharded(folder: Path) -> dict[str, str]:
    """Move the weights into one shard with an index; its map of names and files."""
    shard = "model-00001-of-00001.safetensors"
    (folder / "model.safetensors").rename(folder / shard)
    with safe_open(folder / shard, framework="pt") as file:
        return dict.fromkeys(file.keys(), shard)


def write_index(folder: Path, weight_map: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


@pytest.mark.parametrize(
    "name",
    [
        "../tiny/model.safetensors",
        "/etc/passwd",
        "pytorch_model.bin",
        "model.bin",
        "sub/model.safetensors",
        "model-1.safetensors\0",
        "model\n.safetensors",
        "adapter_model.safetensors",
        "optimizer.safetensors",
        "",
        5,
        None,
    ],
)
def test_an_index_that_names_anything_but_weights_of_the_folder_is_refused(folder: Path, name: object):
    weight_map: dict[str, object] = dict(sharded(folder))
    write_index(folder, weight_map)
    Checkpoint.open(folder)
    weight_map[next(iter(weight_map))] = name
    write_index(folder, weight_map)
    with pytest.raises(BrokenCheckpoint, match="only files model"):
        Checkpoint.open(folder)


def test_an_index_that_lies_is_refused(folder: Path):
    weight_map = sharded(folder)
    first = next(iter(weight_map))
    lies = [
        {},
        [],
        {name: file for name, file in weight_map.items() if name != first},
        {**weight_map, "model.more.weight": weight_map[first]},
        {**weight_map, first: "model-00002-of-00002.safetensors"},
    ]
    for lie in lies:
        write_index(folder, lie)
        with pytest.raises(BrokenCheckpoint, match=r"model\.safetensors\.index\.json"):
            Checkpoint.open(folder)
    (folder / "model.safetensors.index.json").unlink()
    with pytest.raises(BrokenCheckpoint, match=r"which no model\.safetensors\.index\.json names"):
        Checkpoint.open(folder)


def test_a_pickle_an_adapter_or_another_index_beside_the_weights_is_never_opened(folder: Path, tmp_path: Path):
    bomb = tmp_path / "code ran"
    payload = pickle.dumps(type("Bomb", (), {"__reduce__": lambda self: (Path.touch, (bomb,))})())
    (folder / "pytorch_model.bin").write_bytes(payload)
    write_index(folder, {"model.embed_tokens.weight": "pytorch_model.bin"})
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "/nowhere", "peft_type": "LORA"})
    )
    config = json.loads((folder / "config.json").read_text())
    extras = {"transformers_weights": "pytorch_model.bin", "auto_map": {"AutoModel": "evil.Evil"}, "return_dict": False}
    (folder / "config.json").write_text(json.dumps({**config, **extras}))
    lens = open_lens(Checkpoint.open(folder), "cpu")
    assert lens.plain_logits(lens.pad([[3, 4]])[0]).isfinite().all()
    assert not bomb.exists()


def rewrite_header(folder: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + length :])


EMBEDDING = "model.embed_tokens.weight"


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header[EMBEDDING].update(data_offsets=[0]),
        lambda header: header[EMBEDDING].update(data_offsets=[]),
        lambda header: header[EMBEDDING].update(data_offsets=None),
        lambda header: header[EMBEDDING].update(data_offsets=[0, 1, 2]),
        lambda header: header[EMBEDDING].update(data_offsets=["0", "28896"]),
        lambda header: header[EMBEDDING].update(data_offsets=[-1, 28895]),
        lambda header: header[EMBEDDING].update(data_offsets=[0.0, 1e400]),
        lambda header: header[EMBEDDING].update(shape=[24, 301]),
        lambda header: header[EMBEDDING].update(shape=[-301, -24]),
        lambda header: header[EMBEDDING].update(shape="301"),
        lambda header: header[EMBEDDING].update(dtype="I32"),
        lambda header: header[EMBEDDING].update(dtype="F16"),
        lambda header: header[EMBEDDING].update(dtype=["F32"]),
        lambda header: header[EMBEDDING].pop("shape"),
        lambda header: header.update({EMBEDDING: 5}),
        lambda header: header.update({"more": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
        lambda header: header.update({"more": dict(header[EMBEDDING])}),
        lambda header: header.update({"model.layers.0.mlp.up_proj.weight": header[EMBEDDING]}),
    ],
)
def test_a_header_that_is_damaged_is_said_in_a_sentence(folder: Path, change: Callable[[dict[str, Any]], object]):
    rewrite_header(folder, change)
    with pytest.raises(BrokenCheckpoint, match=r"model\.safetensors|weights in"):
        Checkpoint.open(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + struct.pack("<f", float("nan")))
    with pytest.raises(BrokenCheckpoint, match="not finite"):
        open_lens(Checkpoint.open(folder), "cpu")


def test_a_second_copy_of_a_tied_matrix_counts_once_and_has_to_be_the_same(folder: Path):
    before = Checkpoint.open(folder)
    fingerprint, n_parameters = before.fingerprint, before.n_parameters
    weights = load_file(folder / "model.safetensors")
    twin = {**weights, "lm_head.weight": weights[EMBEDDING].clone()}
    save_file(twin, folder / "model.safetensors", metadata={"format": "pt"})
    after = Checkpoint.open(folder)
    assert (after.fingerprint, after.n_parameters) == (fingerprint, n_parameters)
    open_lens(after, "cpu")
    twin["lm_head.weight"][0, 0] += 1
    save_file(twin, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BrokenCheckpoint, match="two different matrices"):
        open_lens(Checkpoint.open(folder), "cpu")
