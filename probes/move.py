"""Probes and fits that carry the fingerprint of the weights alone, as all once did, get that of the whole model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lens.checkpoint import CARD, Checkpoint
from probes.store import BrokenProbes, StaleProbes, read, write

LEARNT = ("probes", "steering")
"""Folders beside a checkpoint whose files carry its fingerprint."""


@dataclass(frozen=True)
class MovedFiles:
    """What became of the probe sets and fits beside a checkpoint."""

    moved: tuple[Path, ...]
    current: tuple[Path, ...]
    """These carry the whole model's fingerprint already."""
    foreign: tuple[Path, ...]
    """These were fitted to other weights, and are left as they are."""


def move_fingerprints(checkpoint: Checkpoint) -> MovedFiles:
    """Give every probe set and fit of the same weights the fingerprint of weights, config and tokenizer.

    The old fingerprint says nothing of config and tokenizer. Where the card names them, they are compared; otherwise
    whoever calls this says that they are still those of the fit.
    """
    parts = ("config", "tokenizer")
    named = {part: checkpoint.card.get(f"{part}_sha256") for part in parts}
    if changed := [part for part in parts if named[part] not in (None, getattr(checkpoint.digests, f"{part}_sha256"))]:
        raise StaleProbes(
            f"The {' and the '.join(changed)} of {checkpoint.folder}/ differ from what its {CARD} names, so the "
            f"probes there do not fit any more. Bring the {changed[0]} back, or fit anew: python -m probes fit "
            f"{checkpoint.folder}"
        )
    kinds: dict[str, list[Path]] = {"moved": [], "current": [], "foreign": []}
    for path in sorted(file for name in LEARNT for file in (checkpoint.folder / name).glob("*.json")):
        kinds[_move(path, checkpoint)].append(path)
    return MovedFiles(**{kind: tuple(paths) for kind, paths in kinds.items()})


def _move(path: Path, checkpoint: Checkpoint) -> str:
    try:
        card, tensors = read(path)
        before = card["fingerprint"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BrokenProbes(f"{path} or its .safetensors is damaged: {error}. Remove both, and fit again.") from error
    if before == checkpoint.fingerprint:
        return "current"
    if before != checkpoint.weights_fingerprint:
        return "foreign"
    card["fingerprint"] = checkpoint.fingerprint
    if isinstance(model := card.get("model"), dict) and model.get("fingerprint") == before:
        model["fingerprint"] = checkpoint.fingerprint
    write(path, card, tensors)
    return "moved"
