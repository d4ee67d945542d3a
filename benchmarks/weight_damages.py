"""Ways to damage the weights of a folder, each a function of a folder and of chance that says what it did."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Damage = Callable[[Path, np.random.Generator], str]
WEIGHTS, CONFIG, TOKENIZER, CARD = "model.safetensors", "config.json", "tokenizer.json", "checkpoint.json"
ODD_VALUES: list[Any] = [
    None, True, "", "x", "10 %", [], {}, [None], -1, 0, 0.5, 10**9, 10**30, 1e308, -1e-300, "1e5", "\ud800", [[[]]],
]  # fmt: skip
OUTSIDE = (
    "../other/model.safetensors",
    "/etc/passwd",
    "pytorch_model.bin",
    "optimizer.safetensors",
    "model\n.safetensors",
)


def rewrite(path: Path, content: bytes) -> None:
    """Put a file of its own in the place of one that is linked."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_bytes())
    change(content)
    rewrite(path, json.dumps(content).encode())


def header_of(folder: Path) -> tuple[bytes, dict[str, Any], bytes]:
    whole = (folder / WEIGHTS).read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    return whole[8 : 8 + length], json.loads(whole[8 : 8 + length]), whole[8 + length :]


def _write_header(folder: Path, header: bytes, body: bytes) -> None:
    rewrite(folder / WEIGHTS, struct.pack("<Q", len(header)) + header + body)


def flip_body_bit(folder: Path, rng: np.random.Generator) -> str:
    header, _, body = header_of(folder)
    place, bit = int(rng.integers(len(body))), int(rng.integers(8))
    _write_header(folder, header, body[:place] + bytes([body[place] ^ 1 << bit]) + body[place + 1 :])
    return f"bit {bit} of byte {place} of the body"


def zero_block(folder: Path, rng: np.random.Generator) -> str:
    header, _, body = header_of(folder)
    place = int(rng.integers(len(body) - 4096))
    _write_header(folder, header, body[:place] + bytes(4096) + body[place + 4096 :])
    return f"4 KB of zeros at byte {place} of the body"


def flip_header_bit(folder: Path, rng: np.random.Generator) -> str:
    whole, length = bytearray((folder / WEIGHTS).read_bytes()), len(header_of(folder)[0])
    place, bit = int(rng.integers(8 + length)), int(rng.integers(8))
    whole[place] ^= 1 << bit
    rewrite(folder / WEIGHTS, bytes(whole))
    return f"bit {bit} of byte {place} of the header"


def change_header(folder: Path, rng: np.random.Generator) -> str:
    _, entries, body = header_of(folder)
    name = str(rng.choice([one for one in entries if one != "__metadata__"]))
    key = str(rng.choice(["dtype", "shape", "data_offsets", "all"]))
    value = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
    if key == "all":
        entries[name] = value
    else:
        entries[name][key] = [value] * int(rng.integers(1, 4)) if rng.random() < 0.5 else value
    _write_header(folder, json.dumps(entries).encode(), body)
    return f"{key} of {name} in the header: {value!a}"


def rename_tensor(folder: Path, rng: np.random.Generator) -> str:
    _, entries, body = header_of(folder)
    name = str(rng.choice([one for one in entries if one != "__metadata__"]))
    entries[f"{name}.old"] = entries.pop(name)
    _write_header(folder, json.dumps(entries).encode(), body)
    return f"{name} renamed"


def cut_into_shards(folder: Path, rng: np.random.Generator) -> str:
    """Two shards with an index, which are whole; or one is missing, or the index names something else."""
    _, entries, body = header_of(folder)
    names = [name for name in entries if name != "__metadata__"]
    weight_map: dict[str, Any] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file, header, content = f"model-{number:05}-of-00002.safetensors", {}, b""
        for name in part:
            begin, end = entries[name]["data_offsets"]
            header[name] = {**entries[name], "data_offsets": [len(content), len(content) + end - begin]}
            content += body[begin:end]
            weight_map[name] = file
        written = json.dumps(header).encode()
        rewrite(folder / file, struct.pack("<Q", len(written)) + written + content)
    (folder / WEIGHTS).unlink()
    trick = str(rng.choice(["whole", "missing", "outside", "lacking"]))
    if trick == "missing":
        (folder / file).unlink()
    elif trick == "outside":
        weight_map[names[0]] = str(rng.choice(OUTSIDE))
    elif trick == "lacking":
        del weight_map[names[0]]
    rewrite(folder / f"{WEIGHTS}.index.json", json.dumps({"weight_map": weight_map}).encode())
    return f"two shards, {trick}"
