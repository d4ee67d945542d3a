"""Whether a checkpoint is what its card says: files, weights, config, tokenizer, end tokens, and the loss on a text."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lens.checkpoint import DEFAULT_FOLDER, Checkpoint, beside_program
from lens.model import Lens
from lens.opening import locate, open_lens, warnings_of_card
from lens.reading import BrokenCheckpoint, is_there, read_plain
from lens.tokenizer import tokens_put_around
from lens.weight_files import INDEX, PLAIN_NAME, weight_files

ROUNDED = 1e-3
"""Nats per token that the loss may differ from the card's in float32, where only the order of sums differs."""
COARSE = 0.05
"""The same in a number format of 8 or 11 bits."""
ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class CheckedPart:
    """One part of a checkpoint, and what was found of it."""

    part: str
    is_right: bool | None
    """None: nothing says what would be right."""
    sentence: str

    def __str__(self) -> str:
        mark = {True: "ok     ", False: "WRONG  ", None: "unknown"}[self.is_right]
        return f"{mark} {self.part}: {self.sentence}"


def check_checkpoint(
    name: str, device: str = "auto", dtype: str | None = None, threads: int | None = None
) -> Iterator[CheckedPart]:
    """Look at one part after the other, the cheapest first; what is broken ends the list."""
    try:
        checkpoint = locate(name)
        yield _files(checkpoint)
        yield from _parts_of_card(checkpoint)
        lens = open_lens(checkpoint, device, dtype, threads)
    except BrokenCheckpoint as error:
        yield CheckedPart("folder", False, str(error))
        return
    yield _end_tokens(lens)
    yield _special_tokens(lens)
    yield _held_out_loss(lens)


def _files(checkpoint: Checkpoint) -> CheckedPart:
    used = {file.name for file in weight_files(checkpoint.folder)}
    stray = sorted(path.name for path in checkpoint.folder.iterdir() if PLAIN_NAME.fullmatch(path.name))
    stray = [name for name in stray if name not in used]
    beside = f" {', '.join(stray)} beside them are no part of the model: no {INDEX} names them." if stray else ""
    many = f"{checkpoint.n_parameters:,} parameters in {len(used)} file{'s' * (len(used) != 1)}"
    return CheckedPart("files", True, f"{many}, all there, as long as their headers say, and as config.json.{beside}")


def _parts_of_card(checkpoint: Checkpoint) -> Iterator[CheckedPart]:
    """Weights, config and tokenizer beside their digests on the card."""
    for part in ("weights", "config", "tokenizer"):
        found, named = getattr(checkpoint.digests, f"{part}_sha256"), checkpoint.card.get(f"{part}_sha256")
        if named is None:
            yield CheckedPart(part, None, "no card says which they should be, as in an adopted folder.")
        elif found == named:
            yield CheckedPart(part, True, "as the card names them.")
        else:
            yield CheckedPart(
                part,
                False,
                f"not those that the card names: expected {named[:12]}, found {found[:12]}. Copy them again.",
            )


def _end_tokens(lens: Lens) -> CheckedPart:
    ends = ", ".join(f"{end} ({lens.decode([end])!r})" for end in sorted(lens.end_tokens))
    named = lens.checkpoint.card.get("end_tokens")
    if named not in (None, sorted(lens.end_tokens)):
        return CheckedPart("end tokens", False, f"a text ends with {ends}, and the card says {named}.")
    if odd := [warning for warning in lens.warnings if warning not in warnings_of_card(lens.checkpoint)]:
        return CheckedPart("end tokens", False, " ".join(odd))
    return CheckedPart("end tokens", True, f"a text ends with {ends}.")


def _special_tokens(lens: Lens) -> CheckedPart:
    before, behind = tokens_put_around(lens.tokenizer)
    if not before and not behind:
        return CheckedPart("special tokens", True, "the tokenizer puts none around a text.")
    around = f"{lens.decode(before)!r} in front of and {lens.decode(behind)!r} behind"
    return CheckedPart(
        "special tokens",
        None,
        f"other programs put {around} each text, as the tokenizer asks; Hormesis reads the text alone "
        "(add_special_tokens=False).",
    )


def _held_out_loss(lens: Lens) -> CheckedPart:
    part, card = "held-out loss", lens.checkpoint.card
    expected, found = _expected_loss(card), _held_out_text(lens.checkpoint)
    if expected is None or found is None:
        missing = (
            "the card gives none" if expected is None else f"its text, {card['held_out_text']['file']}, is not here"
        )
        return CheckedPart(part, None, f"nothing to compare with: {missing}.")
    if len(lens.encode_all([found])[0]) < lens.n_context:
        return CheckedPart(
            part, False, f"the text has fewer than {lens.n_context} tokens here. Copy the tokenizer again."
        )
    loss = held_out_loss(lens, found)
    says = f"{loss:.4f} nats per token on {card['held_out_text']['file']}, and the card says {expected:.4f}"
    if abs(loss - expected) <= (ROUNDED if lens.dtype == torch.float32 else COARSE):
        return CheckedPart(part, True, f"{says}.")
    return CheckedPart(
        part,
        False,
        f"{says}: it is off by {loss - expected:+.4f}. Weights, config or tokenizer are not those of the export.",
    )


def held_out_loss(lens: Lens, text: str) -> float:
    """Mean cross-entropy of the next token in nats, over whole chunks of the context, as exports measure it."""
    (tokens,) = lens.encode_all([text])
    n_chunks = len(tokens) // lens.n_context
    chunks = torch.tensor(tokens[: n_chunks * lens.n_context], device=lens.device).view(n_chunks, lens.n_context)
    total = 0.0
    for rows in chunks.split(ROWS_AT_ONCE):
        logits = lens.plain_logits(rows)[:, :-1].float()
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum").item()
    return total / (n_chunks * (lens.n_context - 1))


def _expected_loss(card: Any) -> float | None:
    """Of the rounded weights, which are those in the file; the card calls them by their number format."""
    losses = (card.get("nats_per_token") or {}).get("held_out_text") if card.get("held_out_text") else None
    loss = losses.get("bfloat16") if isinstance(losses, dict) else None
    known = isinstance(loss, int | float) and not isinstance(loss, bool) and math.isfinite(loss)
    return float(loss) if known and loss is not None else None


def _held_out_text(checkpoint: Checkpoint) -> str | None:
    """The text whose digest the card gives: in the folder, beside it, or among the shipped checkpoints."""
    named = checkpoint.card["held_out_text"] if checkpoint.card.get("held_out_text") else {}
    file, digest = Path(str(named.get("file", ""))).name, named.get("sha256")
    places = (checkpoint.folder, checkpoint.folder.absolute().parent, beside_program(DEFAULT_FOLDER))
    for path in (place / file for place in places if file):
        content = read_plain(path) if is_there(path) else b""
        if hashlib.sha256(content).hexdigest() == digest:
            return content.decode("utf-8")
    return None
