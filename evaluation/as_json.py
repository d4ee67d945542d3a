"""Frozen values of estimates as JSON and back: small, the same everywhere, and readable line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from probes.estimate import Estimate

ESTIMATES = {"value", "difference", "best", "difference_by_head"}
MAPPINGS = {"measures", "cost"}
"""Fields that hold estimates by name."""
TUPLES = {"members", "each", "null_band", "random_tokens"}


def plain(value: Any) -> Any:
    """As JSON knows it: an estimate is [value, low, high, n], the ends null without an interval; six digits."""
    if isinstance(value, Estimate):
        return plain(value.row)
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    return value


def made(kind: Any, found: Mapping[str, Any]) -> Any:
    """A frozen value of that kind from what `plain` made of it."""

    def value(name: str, one: Any) -> Any:
        if name in ESTIMATES:
            return None if one is None else Estimate.of(one)
        if name in MAPPINGS:
            return {key: Estimate.of(numbers) for key, numbers in one.items()}
        return tuple(one) if name in TUPLES and one is not None else one

    return kind(**{name: value(name, one) for name, one in found.items()})


def text(parts: Mapping[str, Any]) -> str:
    """One JSON object with a line for each object of its lists, so that two versions are told apart line by line."""
    return "{" + ",\n".join(f"{json.dumps(name)}: {_lines(part)}" for name, part in parts.items()) + "}\n"


def _lines(part: Any) -> str:
    write = partial(json.dumps, ensure_ascii=False)
    if isinstance(part, list) and part and isinstance(part[0], dict):
        return "[\n" + ",\n".join(map(write, part)) + "]"
    if isinstance(part, dict) and any(isinstance(one, list) for one in part.values()):
        return "{\n" + ",\n".join(f"{write(name)}: {write(one)}" for name, one in part.items()) + "}"
    return write(part)
