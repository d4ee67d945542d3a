"""A model is its weights, its config and its tokenizer: what names exactly these three.

However the weights are cut into files and however the JSON is spelt, the same model has the same fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lens.config import CONFIG, GENERATION_CONFIG, ModelConfig
from lens.reading import is_there, read_json_object
from lens.safetensors_header import FileState, StoredTensor, file_state
from lens.weight_files import INDEX, SINGLE, TIED, stored_tensors, weight_files

TOKENIZER = "tokenizer.json"
LARGEST_TOKENIZER = 100_000_000
ModelState = tuple[FileState, ...]


@dataclass(frozen=True)
class ModelDigests:
    """SHA-256 of each part of a model, as cards carry them."""

    weights_sha256: str
    config_sha256: str
    tokenizer_sha256: str

    @property
    def fingerprint(self) -> str:
        """Names exactly these numbers and words."""
        return hashlib.sha256(
            "\n".join((self.weights_sha256, self.config_sha256, self.tokenizer_sha256)).encode()
        ).hexdigest()


def model_state(folder: Path) -> ModelState:
    """What changes whenever a file of the model does: cheap, and the key of whatever is kept of an open model."""
    weights = weight_files(folder)
    index = [] if weights == [folder / SINGLE] else [folder / INDEX]
    told = [path for path in (folder / CONFIG, folder / GENERATION_CONFIG, *index) if is_there(path)]
    return tuple(file_state(path) for path in (*told, folder / TOKENIZER, *weights))


def digests(folder: Path) -> ModelDigests:
    """Digests of the model in a folder; read anew only when one of its files has changed."""
    return _digests(folder, model_state(folder))


@lru_cache(maxsize=256)
def _digests(folder: Path, state: ModelState) -> ModelDigests:
    config = ModelConfig.read(folder)
    tensors = stored_tensors(folder, config)
    tokenizer = read_json_object(folder / TOKENIZER, "the vocabulary", LARGEST_TOKENIZER)
    return ModelDigests(
        digest_weights(tensors, config.tie_word_embeddings),
        _digest_json(config.canonical),
        _digest_json(_canonical_tokenizer(tokenizer)),
    )


def digest_weights(tensors: Mapping[str, StoredTensor], tied: bool) -> str:
    """SHA-256 over name, format, shape and bytes of every tensor in order of names, whichever file it lies in."""
    counted = tuple(tensor for name, tensor in tensors.items() if not (tied and name == TIED))
    states = tuple(file_state(file) for file in sorted({tensor.file for tensor in counted}))
    return _digest(counted, states)


def digest_files(folder: Path) -> str:
    """SHA-256 of the weight files as they are: what the fingerprint was before it covered config and tokenizer."""
    return _digest_files(tuple(file_state(file) for file in weight_files(folder)))


@lru_cache(maxsize=256)
def _digest(tensors: tuple[StoredTensor, ...], states: tuple[FileState, ...]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        with tensor.file.open("rb") as file:
            file.seek(tensor.begin)
            for block in _blocks(file, tensor.end - tensor.begin):
                digest.update(block)
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _digest_files(states: tuple[FileState, ...]) -> str:
    digest = hashlib.sha256()
    for path, size, *_ in states:
        with open(path, "rb") as file:
            for block in _blocks(file, size):
                digest.update(block)
    return digest.hexdigest()


def _blocks(file: Any, n_bytes: int) -> Iterator[bytes]:
    while n_bytes > 0 and (block := file.read(min(n_bytes, 1 << 22))):
        n_bytes -= len(block)
        yield block


def _digest_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _canonical_tokenizer(content: Mapping[str, Any]) -> dict[str, Any]:
    """Without what every call sets anew, and with merges in one of their two spellings."""
    acting = {name: value for name, value in content.items() if name not in ("truncation", "padding")}
    model = acting.get("model")
    if isinstance(model, dict) and isinstance(merges := model.get("merges"), list):
        pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges]
        acting["model"] = {**model, "merges": pairs}
    return acting
