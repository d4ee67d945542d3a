"""Ways to damage a checkpoint's folder, each a function of a folder and of chance that says what it did."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.weight_damages import (
    CARD,
    CONFIG,
    ODD_VALUES,
    TOKENIZER,
    WEIGHTS,
    Damage,
    change_header,
    cut_into_shards,
    edit,
    flip_body_bit,
    flip_header_bit,
    rename_tensor,
    rewrite,
    zero_block,
)

BROKEN_JSON = (b"", b"{", b"[]", b"null", b"\xff\xfe", b"NaN", b'{"a": NaN}', b"[" * 200_000, b'{"a":' * 200_000)
"""The last two are nested too deeply."""


def truncate_file(folder: Path, rng: np.random.Generator) -> str:
    name = str(rng.choice([WEIGHTS, WEIGHTS, CONFIG, TOKENIZER, CARD]))
    content = (folder / name).read_bytes()
    length = int(rng.integers(len(content)))
    rewrite(folder / name, content[:length])
    return f"{name} cut to {length} bytes"


def append_bytes(folder: Path, rng: np.random.Generator) -> str:
    name = str(rng.choice([WEIGHTS, CONFIG, TOKENIZER, CARD]))
    rewrite(folder / name, (folder / name).read_bytes() + rng.bytes(int(rng.integers(1, 100))))
    return f"bytes behind {name}"


def change_config(folder: Path, rng: np.random.Generator) -> str:
    fields = json.loads((folder / CONFIG).read_bytes())
    name, value = str(rng.choice(list(fields))), ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
    edit(folder / CONFIG, lambda content: content.pop(name) if rng.random() < 0.2 else content.update({name: value}))
    return f"{name} in config.json: {value!a}, or left out"


def change_ends(folder: Path, rng: np.random.Generator) -> str:
    name = str(rng.choice([CONFIG, "generation_config.json"]))
    values = [*ODD_VALUES, 13, [1, 0], [0, 10**6], [0, "1"]]
    value = values[int(rng.integers(len(values)))]
    if not (folder / name).exists():
        rewrite(folder / name, b"{}")
    edit(folder / name, lambda content: content.update(eos_token_id=value))
    return f"eos_token_id in {name}: {value!a}"


def change_card(folder: Path, rng: np.random.Generator) -> str:
    fields = ("name", "family", "toxic_share", "share_of", "seed", "step", "n_tokens", "mix", "weights_sha256")
    name, value = str(rng.choice(fields)), ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
    edit(folder / CARD, lambda content: content.update({name: value}))
    return f"{name} on the card: {value!a}"


def break_json(folder: Path, rng: np.random.Generator) -> str:
    name = str(rng.choice([CONFIG, TOKENIZER, CARD, "generation_config.json"]))
    content = BROKEN_JSON[int(rng.integers(len(BROKEN_JSON)))]
    rewrite(folder / name, content)
    return f"{name}: {content[:20]!r}"


def swap_words(folder: Path, rng: np.random.Generator) -> str:
    def swap(content: dict[str, Any]) -> None:
        vocab = content["model"]["vocab"]
        a, b = (str(word) for word in rng.choice(list(vocab), size=2, replace=False))
        vocab[a], vocab[b] = vocab[b], vocab[a]

    edit(folder / TOKENIZER, swap)
    return "two words' ids swapped"


def change_tokenizer(folder: Path, rng: np.random.Generator) -> str:
    evil = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    changes: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
        ("a word left out", lambda c: c["model"]["vocab"].pop(str(rng.choice(list(c["model"]["vocab"]))))),
        ("an id beyond the vocabulary", lambda c: c["model"]["vocab"].update(beyond=10**8)),
        ("a negative id", lambda c: c["model"]["vocab"].update(below=-1)),
        ("no vocabulary", lambda c: c["model"].update(vocab={}, merges=[])),
        ("no merges", lambda c: c["model"].update(merges=[])),
        ("a merge of nothing", lambda c: c["model"]["merges"].append(["not", "there"])),
        ("dropout", lambda c: c["model"].update(dropout=0.5)),
        ("another kind of model", lambda c: c["model"].update(type=str(rng.choice(["WordLevel", "Unigram", "x"])))),
        ("an expression that takes for ever", lambda c: c.update(pre_tokenizer=evil)),
        ("no decoder", lambda c: c.update(decoder=None)),
        ("an odd normalizer", lambda c: c.update(normalizer=ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])),
        ("odd added tokens", lambda c: c.update(added_tokens=ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])),
    ]
    what, change = changes[int(rng.integers(len(changes)))]
    edit(folder / TOKENIZER, change)
    return what


def replace_by_special_file(folder: Path, rng: np.random.Generator) -> str:
    path = folder / str(rng.choice([WEIGHTS, CONFIG, TOKENIZER, CARD]))
    kind = str(rng.choice(["pipe", "socket", "folder", "zero", "self", "nowhere", "kmsg"]))
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"zero": "/dev/zero", "self": path.name, "nowhere": "not-there", "kmsg": "/proc/kmsg"}
        path.symlink_to(targets[kind])
    return f"{path.name} is a {kind}"


def remove_file(folder: Path, rng: np.random.Generator) -> str:
    name = str(rng.choice([WEIGHTS, CONFIG, TOKENIZER, CARD]))
    (folder / name).unlink()
    return f"{name} is missing"


def add_stray_files(folder: Path, rng: np.random.Generator) -> str:
    name = str(
        rng.choice(["model-old.safetensors", "model-00002-of-00002.safetensors", "pytorch_model.bin", "adapter"])
    )
    if name == "adapter":
        rewrite(folder / "adapter_config.json", b'{"base_model_name_or_path": "/nowhere", "peft_type": "LORA"}')
    else:
        rewrite(folder / name, pickle.dumps(print) if name.endswith(".bin") else (folder / WEIGHTS).read_bytes()[:-2])
    return f"{name} beside the weights"


def damage_probes(folder: Path, rng: np.random.Generator) -> str:
    """The probes beside the checkpoint, if it has any: cut, a pipe, or a card of another kind."""
    paths = sorted((folder / "probes").glob("*.safetensors"))
    if not paths:
        return "no probes to damage"
    own = folder / "own"
    shutil.copytree(folder / "probes", own)
    (folder / "probes").unlink()
    own.rename(folder / "probes")
    path, kind = folder / "probes" / paths[0].name, str(rng.choice(["cut", "pipe", "flip"]))
    content = bytearray(path.read_bytes())
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
        return f"{path.name} is a pipe"
    place = int(rng.integers(min(len(content), 3000)))
    content[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(content[:place] if kind == "cut" else content)
    return f"{path.name}: {kind} at byte {place}"


DAMAGES: tuple[Damage, ...] = (
    flip_body_bit,
    flip_header_bit,
    change_header,
    change_config,
    change_card,
    change_tokenizer,
    replace_by_special_file,
    cut_into_shards,
    break_json,
    change_ends,
    truncate_file,
    flip_body_bit,
    append_bytes,
    swap_words,
    zero_block,
    rename_tensor,
    remove_file,
    add_stray_files,
    damage_probes,
)
