"""Bodies of requests: of a bounded size, real JSON, and without files, for no input of ours is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from starlette.exceptions import HTTPException

MOST_BYTES = 262_144
"""Of one body. The longest thing that a page sends is a prompt."""
DEEPEST = 32
"""Lists and objects inside each other; a page nests four."""
MOST_DIGITS = 400
"""Of one number: enough for every float as it is written out."""
FILE_KEYS = frozenset({"path", "orig_name", "is_stream", "_type"})
"""An object with one of these keys is a file to Gradio, or becomes one."""


def read_json(body: bytes) -> dict[str, Any]:
    """The object that a body holds."""
    try:
        given = json.loads(body.decode(), parse_int=_whole)
    except RecursionError:
        raise HTTPException(400, "The body is nested too deeply.") from None
    except ValueError:
        raise HTTPException(400, "The body should be a JSON object in UTF-8.") from None
    if not isinstance(given, dict):
        raise HTTPException(400, 'The body should be a JSON object, such as {"data": []}.')
    for value in _within(given):
        _check(value)
    return given


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise HTTPException(400, f"A number in the body has more than {MOST_DIGITS} digits.")
    return int(digits)


def _within(value: Any, depth: int = 0) -> Iterator[Any]:
    """Every value inside, keys too."""
    if depth > DEEPEST:
        raise HTTPException(400, "The body is nested too deeply.")
    yield value
    inside = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inside:
        yield from _within(part, depth + 1)


def _check(value: Any) -> None:
    """Refuse what no input of ours is: a file, and half of a surrogate pair."""
    if isinstance(value, dict) and not FILE_KEYS.isdisjoint(value):
        raise HTTPException(400, "No input of this page is a file.")
    if isinstance(value, str) and any("\ud800" <= sign <= "\udfff" for sign in value):
        raise HTTPException(400, "A text in the body holds a lone surrogate, which is no character.")
