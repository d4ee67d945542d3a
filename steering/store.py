"""Fits on disk, beside the checkpoint they belong to: tensors in safetensors, the rest in JSON, written last."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lens import Checkpoint, Lens
from lens.files import NotWritable, check_folder
from probes.probe import ProbeSet
from probes.store import explain_stale, read, write
from steering.edit import Affine, Edit, Site
from steering.plan import Plan

FORMAT = 1
PARTS = ("constant", "scale", "left", "right")


class NoFit(LookupError):
    """A checkpoint has no fit of this plan that can be used; the sentence has the command that makes one."""


def as_fitted(plan: Plan) -> Plan:
    """The plan without what a fit does not depend on: the gate, and the seed of random directions."""
    return replace(plan, gate=None, seed=0, where=plan.site)


def path_of(folder: Path, plan: Plan) -> Path:
    """The JSON file of a plan's fit; its tensors lie beside it."""
    digest = hashlib.sha256(as_fitted(plan).to_json().encode()).hexdigest()
    return Path(folder) / "steering" / f"{plan.method}-{plan.probes}-{digest[:8]}.json"


def can_keep(checkpoint: Checkpoint) -> bool:
    """Whether a fit can be written beside the checkpoint; a read-only folder can still be steered."""
    try:
        check_folder(checkpoint.folder / "steering")
    except NotWritable:
        return False
    return True


def save(lens: Lens, plan: Plan, probes: ProbeSet, edits: Sequence[Edit]) -> Path:
    """Write `steering/<name>.safetensors` and `.json` into the checkpoint's folder; returns the latter's path."""
    card = {
        "format": FORMAT,
        "plan": asdict(as_fitted(plan)),
        "fingerprint": lens.fingerprint,
        "fitted_on": fitted_on(probes),
        "fitted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": lens.description,
        "fitted_with": lens.computed_with,
        "edits": [{"name": edit.name, "layer": edit.site.layer, "where": edit.site.where} for edit in edits],
    }
    parts = {f"{edit.name}.{part}": getattr(edit.change, part) for edit in edits for part in PARTS}
    path = path_of(lens.checkpoint.folder, plan)
    write(path, card, {name: tensor for name, tensor in parts.items() if tensor is not None})
    return path


def load(checkpoint: Checkpoint, plan: Plan, probes: ProbeSet) -> tuple[Edit, ...]:
    """Read what `save` wrote; refused when the model, the texts or their split have changed since."""
    path = path_of(checkpoint.folder, plan)
    if not path.exists():
        raise NoFit(f"{checkpoint.name} has no fit of {plan} yet. {cure(checkpoint, plan)}")
    try:
        card, tensors = read(path)
        edits = tuple(_edit(entry, tensors) for entry in card["edits"])
        belongs = card["format"], Plan.from_json(json.dumps(card["plan"])), card["fingerprint"], card["fitted_on"]
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        raise NoFit(
            f"{path} or its .safetensors is damaged: {str(error).rstrip('.')}. {cure(checkpoint, plan)}"
        ) from error
    if card["fingerprint"] != checkpoint.fingerprint:
        raise NoFit(explain_stale(str(path), card["fingerprint"], checkpoint, cure(checkpoint, plan)))
    if belongs != (FORMAT, as_fitted(plan), checkpoint.fingerprint, fitted_on(probes)):
        raise NoFit(
            f"{path} was fitted to other texts or held-out texts than the probes {probes.name!r} of {checkpoint.name} "
            f"have now. {cure(checkpoint, plan)}"
        )
    return edits


def cure(checkpoint: Checkpoint, plan: Plan) -> str:
    """The command that fits the plan."""
    words = [
        "python",
        "-m",
        "steering",
        "fit",
        str(checkpoint.folder),
        "--method",
        plan.method,
        "--probes",
        plan.probes,
    ]
    for name in ("where", "heads", "positions"):
        if (value := getattr(plan, name)) != getattr(Plan(), name):
            words += [f"--{name}", str(value)]
    words += ["--layers", *map(str, plan.layers)] if plan.layers else []
    return f"Fit it to the texts of its probes: {shlex.join(words)} --texts FILE"


def fitted_on(probes: ProbeSet) -> dict[str, Any]:
    """What of a probe set a fit depends on: the texts, those held out, and the order of heads and layers."""
    order = " ".join(map(str, probes.ranked()))
    return {
        "texts_digest": probes.texts_digest,
        "held_out": hashlib.sha256(json.dumps(probes.test_rows).encode()).hexdigest(),
        "ranking": hashlib.sha256(order.encode()).hexdigest(),
    }


def _edit(entry: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Edit:
    name, site = entry["name"], Site(int(entry["layer"]), entry["where"])
    change = Affine(tensors[f"{name}.constant"], *(tensors.get(f"{name}.{part}") for part in PARTS[1:]))
    if not change(torch.zeros(1, len(change.constant))).isfinite().all():
        raise ValueError(f"the change of {name} is not made of numbers")
    return Edit(name, site, change)
