"""Numbers as people give them (Python's, NumPy's, one element of a tensor), kept as plain Python numbers."""

from __future__ import annotations

import math
import operator
from functools import cache
from numbers import Real
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

SEVERAL = (tuple, list, range, np.ndarray)
"""What may hold the numbers of a tuple field."""


def as_float(value: object) -> float | None:
    """A real number as a plain float; None for bools, NaN and all else."""
    value = _single(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        return None
    try:
        found = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf if value > 0 else -math.inf  # type: ignore[operator]
    return None if math.isnan(found) else found


def as_int(value: object) -> int | None:
    """A whole number as a plain int; None for bools, for 2.0 and for all else."""
    value = _single(value)
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def whole_number(name: str, value: object, least: int | None = None) -> int:
    """An argument that is a whole number, as a plain int, or a sentence that names it."""
    found = as_int(value)
    if found is None or (least is not None and found < least):
        from_least = "" if least is None else f" from {least} up"
        raise ValueError(f"{name} is a whole number{from_least}; got {value!r}.")
    return found


def settle_numbers(settings: Any) -> None:
    """Keep the number fields of a frozen dataclass as plain Python numbers; what is no number is refused.

    A whole number is whole and none is NaN. A field that may hold a word as well is left as it is where it holds no
    number: the class knows the words.
    """
    for name, kinds in _number_fields(settings.__class__).items():
        value = getattr(settings, name)
        if value is None and type(None) in kinds:
            continue
        settled = _settled_tuple(name, value, kinds) if tuple in kinds else _number(value, kinds)
        if settled is not None:
            object.__setattr__(settings, name, settled)
        elif str not in kinds:
            raise ValueError(f"{name} is {_wanted(kinds)}; got {value!r}.")


def _settled_tuple(name: str, value: object, kinds: set[type]) -> tuple[float | None, ...]:
    found = tuple(_number(one, kinds) for one in value) if isinstance(value, SEVERAL) else (None,)
    if None in found:
        raise ValueError(f"{name} is a list, each entry of it {_wanted(kinds)}; got {value!r}.")
    return found


def _number(value: object, kinds: set[type]) -> float | None:
    return as_float(value) if float in kinds else as_int(value)


def _wanted(kinds: set[type]) -> str:
    return "a number" if float in kinds else "a whole number"


@cache
def _number_fields(of: type) -> dict[str, set[type]]:
    """Fields that hold an int or a float, or a tuple of them, with all types that their annotation names."""
    kinds = {name: set(_flat(hint)) for name, hint in get_type_hints(of).items()}
    return {
        name: found
        for name, found in kinds.items()
        if found & {int, float} and found <= {int, float, str, tuple, type(None)}
    }


def _flat(hint: Any) -> list[type]:
    """The types of `float | None`, and tuple with its entry's of `tuple[int, ...]`."""
    if get_origin(hint) is tuple and get_args(hint)[1:] == (...,):
        return [tuple, *_flat(get_args(hint)[0])]
    if get_origin(hint) is not None and get_args(hint) and get_origin(hint) is not tuple:
        return [kind for one in get_args(hint) for kind in _flat(one)]
    return [hint] if isinstance(hint, type) else [object]


def _single(value: object) -> object:
    """The element of an array or a tensor without axes."""
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
