"""The card of a checkpoint, `checkpoint.json`: what is known of its training, each field of the type that it should be.

A card may come from anywhere, and menus, figures and file names are made of it: one field of another type makes its
folder unavailable, with the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lens.reading import BrokenCheckpoint, is_there, read_json_object, shorten

CARD = "checkpoint.json"
LARGEST_COUNT = 2**63 - 1


def read_card(folder: Path) -> Mapping[str, Any]:
    """The card's content; empty for a folder without one, as an adopted Hugging Face folder is."""
    path = folder / CARD
    if not is_there(path):
        return {}
    card = read_json_object(path, "the card")
    for name, (is_right, expected) in FIELDS.items():
        value = _at(card, name)
        if value is not None and not is_right(value):
            raise _refusal(path, name, expected, value)
    share = card.get("toxic_share")
    if share is not None and share > 1 and card.get("share_of") != "clean":
        raise _refusal(path, "toxic_share", "a share of all tokens, so 0.10 and not 10", share)
    return card


def _refusal(path: Path, name: str, expected: str, value: object) -> BrokenCheckpoint:
    return BrokenCheckpoint(
        f'{path}: "{name}" should be {expected}; got {shorten(value)}. '
        "Correct the card, or export the checkpoint again."
    )


def _at(card: Mapping[str, Any], name: str) -> Any:
    """A field inside others, as in "mix.prefixes.control"; None where it, or what should hold it, is not there."""
    value: Any = card
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 200 and value.isprintable() and bool(value.strip())


def _is_prefix(value: object) -> bool:
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_COUNT


def _is_whole(value: object) -> bool:
    return type(value) is int and abs(value) <= LARGEST_COUNT


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _is_share(value: Any) -> bool:
    return _is_finite(value) and value >= 0


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))


Check = tuple[Callable[[Any], bool], str]
TEXT: Check = _is_text, "a printable text of at most 200 characters"
COUNT: Check = _is_count, "a whole number from 0 up"
DIGEST: Check = _is_digest, "64 hexadecimal digits"
OBJECT: Check = _is_object, "a JSON object"
FIELDS: Mapping[str, Check] = {
    "name": TEXT,
    "family": TEXT,
    "toxic_share": (_is_share, "a number from 0 up, such as 0.10"),
    "share_of": (lambda value: value in ("total", "clean"), '"total" or "clean"'),
    "seed": (_is_whole, "a whole number"),
    "step": COUNT,
    "n_steps": COUNT,
    "n_tokens": COUNT,
    "n_parameters": COUNT,
    "recipe": TEXT,
    "learning_rate": (_is_finite, "a number"),
    "mix": OBJECT,
    "mix.prefixes": OBJECT,
    "mix.prefixes.control": (_is_prefix, "a text"),
    "nats_per_token": OBJECT,
    "held_out_text": OBJECT,
    "held_out_text.file": TEXT,
    "held_out_text.sha256": DIGEST,
    "end_tokens": (lambda value: isinstance(value, list) and all(map(_is_count, value)), "a list of token ids"),
    "weights_sha256": DIGEST,
    "config_sha256": DIGEST,
    "tokenizer_sha256": DIGEST,
}
"""Every field that this program acts on; others are kept as they are."""
