"""Probes on disk: tensors in safetensors, the rest in JSON, and either save wholly there or not at all."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens.checkpoint import Checkpoint
from lens.files import write_atomically
from lens.own_output import check_own
from lens.reading import parse_json, plain_status
from probes.fits import Fits

BY_GROUP = "-by-group"
"""Ends the name of probes fitted under the harder split, so that both splits of one set lie side by side."""


class NoProbes(LookupError):
    """A checkpoint has no probes of that name yet."""


class StaleProbes(ValueError):
    """Probes were fitted to another model than the one in the folder."""


class BrokenProbes(ValueError):
    """The files of a probe set are damaged."""


def path_of(folder: Path, name: str) -> Path:
    """The JSON file of a probe set; its tensors lie beside it."""
    return Path(folder) / "probes" / f"{name}.json"


def saved(checkpoint: Checkpoint) -> list[str]:
    """Names of the probe sets beside a checkpoint."""
    return sorted(path.stem for path in (checkpoint.folder / "probes").glob("*.json"))


def check_same_texts(folder: Path, name: str, texts_digest: str, overwrite: bool) -> None:
    """Refuse to replace probes that were fitted to other texts; the same ones may be fitted anew."""
    path = path_of(folder, name)
    check_own(
        [path if path.exists() else path.with_suffix(".safetensors")],
        lambda _: json.loads(path.read_text(encoding="utf-8"))["texts_digest"] == texts_digest,
        overwrite,
        "They are probes on other texts or labels, or damaged: give --name, or --overwrite to replace them.",
    )


def cure(checkpoint: Checkpoint, name: str) -> str:
    """The command that brings the probes."""
    texts = name.removesuffix(BY_GROUP)
    source = "builtin" if texts == "builtin" else f"FILE --name {texts}"
    split = "" if texts == name else " --by group"
    return f"Fit them: python -m probes fit {checkpoint.folder} --texts {source}{split}"


def explain_stale(what: str, fingerprint: object, checkpoint: Checkpoint, remedy: str) -> str:
    """Why probes or a fit with this fingerprint do not belong to the checkpoint, and what to do."""
    if fingerprint == checkpoint.weights_fingerprint:
        return (
            f"{what} came with the fingerprint of the weights alone, as all did before it covered config.json and "
            "tokenizer.json, too. If both are still those of the fit, give it the new one: "
            f"python -m probes move {shlex.quote(str(checkpoint.folder))}. {remedy}"
        )
    return (
        f"{what} came from other weights, another config or another tokenizer than those now in {checkpoint.folder}: "
        f"expected the fingerprint {str(fingerprint)[:12]}, found {checkpoint.fingerprint[:12]}. {remedy}"
    )


def write(path: Path, card: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Tensors first, the JSON last: its presence says that the save is whole.

    The card travels inside the tensors' file too, and is read from there: should a kill come between the two writes of
    a second save, the tensors still meet the card they belong to.
    """
    from safetensors.torch import save

    text = json.dumps(card, indent=1)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_atomically(path.with_suffix(".safetensors"), save(whole, metadata={"card": text}))
    write_atomically(path, text)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The card and the tensors."""
    from safetensors import SafetensorError, safe_open

    tensors_file = path.with_suffix(".safetensors")
    plain_status(tensors_file)
    try:
        with safe_open(tensors_file, framework="pt") as file:
            # copies, for how a tensor lies in the file depends on the length of its card, and sums on how it lies
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return parse_json(file.metadata()["card"].encode()), tensors
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def packed(part: str, fits: Fits) -> dict[str, Tensor]:
    """Tensors by name; of symmetric covariances the lower half, so that they take half the room."""
    named = {f"{part}.{field.name}": getattr(fits, field.name) for field in fields(fits)}
    return {**named, f"{part}.covariance": lower(fits.covariance)}


def unpacked(part: str, tensors: Mapping[str, Tensor]) -> Fits:
    """The fits that `packed` took apart."""
    values = {field.name: tensors[f"{part}.{field.name}"] for field in fields(Fits)}
    return Fits(**{**values, "covariance": mirrored(values["covariance"], values["weight"].shape[-1])})


def lower(square: Float[Tensor, "*unit d d"]) -> Float[Tensor, "*unit half"]:
    """The lower half of symmetric matrices, diagonal included."""
    rows, columns = torch.tril_indices(square.shape[-1], square.shape[-1])
    return square[..., rows, columns]


def mirrored(half: Float[Tensor, "*unit half"], d: int) -> Float[Tensor, "*unit d d"]:
    """The symmetric matrices of which `lower` kept the half."""
    rows, columns = torch.tril_indices(d, d)
    square = half.new_empty(*half.shape[:-1], d, d)
    square[..., rows, columns] = half
    square[..., columns, rows] = half
    return square
