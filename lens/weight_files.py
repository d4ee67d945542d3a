"""The weights of a folder: which files its index names, and what their headers say before any number is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lens.architecture import OLMO
from lens.config import ModelConfig
from lens.reading import BrokenCheckpoint, is_there, read_json_object, shorten
from lens.safetensors_header import StoredTensor, file_state, read_header

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PLAIN_NAME = re.compile(r"model[\w.-]*\.safetensors", re.ASCII)
EMBEDDING, TIED = f"{OLMO.embedding}.weight", f"{OLMO.unembedding}.weight"
"""Where a model has one matrix for both, some files hold a second copy of it."""


def weight_files(folder: Path) -> list[Path]:
    """The files that make up the model: the single one, or those that the index names. Others beside do not count."""
    if is_there(folder / SINGLE):
        return [folder / SINGLE]
    if not is_there(folder / INDEX):
        raise _without_weights(folder)
    files = [folder / name for name in sorted(set(_weight_map(folder).values()))]
    if missing := [file.name for file in files if not is_there(file)]:
        raise BrokenCheckpoint(
            f"{folder}/ lacks {missing[0]}, which {INDEX} names ({len(missing)} of {len(files)} files are missing). "
            "Copy all files again."
        )
    return files


def stored_tensors(folder: Path, config: ModelConfig) -> dict[str, StoredTensor]:
    """Every tensor by name, in order of names; refused unless they are just those that the config describes."""
    files = weight_files(folder)
    found: dict[str, StoredTensor] = {}
    for file in files:
        for tensor in read_header(file_state(file)):
            if tensor.name in found:
                raise BrokenCheckpoint(f"{tensor.name} stands in two files of {folder}/. Copy all files again.")
            found[tensor.name] = tensor
    if files != [folder / SINGLE]:
        _check_index(folder, found)
    found = {name: found[name] for name in sorted(found) if not name.endswith("rotary_emb.inv_freq")}
    _check_shapes(folder, found, config)
    return found


def _without_weights(folder: Path) -> BrokenCheckpoint:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        names = []
    pickled = next((name for name in names if re.fullmatch(r"pytorch_model.*\.bin", name)), None)
    shards = [name for name in names if PLAIN_NAME.fullmatch(name)]
    instead = f" It has {pickled}, a pickle, which can run code when opened." if pickled else ""
    instead += f" It has {shards[0]}, which no {INDEX} names." if shards else ""
    return BrokenCheckpoint(
        f"{folder}/ has no {SINGLE}.{instead} Save the model with "
        "`model.save_pretrained(folder, safe_serialization=True)`, or export it again."
    )


def _weight_map(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    found = read_json_object(path, "which tensor lies in which file").get("weight_map")
    if not isinstance(found, dict) or not found:
        raise BrokenCheckpoint(f'{path} has no "weight_map" of tensors and files. Copy it again.')
    for name in found.values():
        if not isinstance(name, str) or not PLAIN_NAME.fullmatch(name):
            raise BrokenCheckpoint(
                f"{path} names {shorten(name)}; only files model*.safetensors of the same folder are opened. "
                "Copy the folder from its source again."
            )
    return found


def _check_index(folder: Path, found: Mapping[str, StoredTensor]) -> None:
    named = _weight_map(folder)
    wrong = sorted(named.keys() ^ found.keys()) or [name for name in named if found[name].file.name != named[name]]
    if wrong:
        raise BrokenCheckpoint(
            f"{folder / INDEX} and the headers of its files disagree about {len(wrong)} tensors, such as "
            f"{shorten(wrong[0])}. Copy all files again."
        )


def _check_shapes(folder: Path, found: Mapping[str, StoredTensor], config: ModelConfig) -> None:
    """Numbers are compared before names, so that a config of 10^9 layers costs nothing."""
    spare = config.tie_word_embeddings and TIED in found
    if len(found) - spare != config.n_tensors:
        raise BrokenCheckpoint(
            f"The weights in {folder}/ do not fit its config.json: {len(found) - spare:,} tensors, and "
            f"{config.n_tensors:,} are expected; look at {_first_wrong(found, config)}. "
            "Copy config.json and the weights from one source, or export again."
        )
    shapes = dict(config.shapes())
    if spare:
        shapes[TIED] = shapes[EMBEDDING]
    wrong_ones = [name for name in shapes if name not in found or found[name].shape != shapes[name]]
    if wrong_ones:
        raise BrokenCheckpoint(
            f"The weights in {folder}/ do not fit its config.json: {len(wrong_ones)} are missing, too many or of "
            f"another shape, such as {wrong_ones[0]}. "
            "Copy config.json and the weights from one source, or export again."
        )


def _first_wrong(found: Mapping[str, StoredTensor], config: ModelConfig) -> str:
    """A tensor that is missing, or one too many: found after no more names than the files have."""
    if len(found) < config.n_tensors:
        return next(name for name, _ in config.shapes() if name not in found)
    return shorten(next(iter(found.keys() - {name for name, _ in config.shapes()}), TIED))
