"""Values from the network, checked one by one: what no control of ours can produce is refused in a sentence."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from numbers import Integral, Real

UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's classes of control characters, lone surrogates, and separators of lines and paragraphs."""
DIGITS_SHOWN = 40


class Refused(ValueError):
    """Something from the browser or the API that no control of ours can produce."""


def one_line(value: object, what: str, most: int = 200) -> str:
    """A short text: a name, a list."""
    if not isinstance(value, str) or len(value) > most or _has_unseen(value):
        raise Refused(f"{_opening(what)} should be one line of at most {most} characters, none of them unseen.")
    return value


def long_text(value: object, what: str, most: int) -> str:
    """A text that may have several lines: a prompt."""
    if not isinstance(value, str) or len(value) > most:
        raise Refused(f"{_opening(what)} should be a text of at most {most:,} characters. Shorten it.")
    if _has_unseen(value, but="\n\r\t\u2028\u2029"):
        raise Refused(f"{_opening(what)} holds a control character or half of a surrogate pair. Write it anew.")
    return value


def number(value: object, what: str, low: float, high: float) -> float:
    """A finite number within bounds that the controls keep too."""
    if not _is_number(value) or not low <= value <= high:  # type: ignore[operator]  # NaN is in no range
        raise Refused(f"{_opening(what)} should be a number from {low:g} to {high:g}; {_found(value)}.")
    return float(value)  # type: ignore[arg-type]


def whole(value: object, what: str, low: int, high: int) -> int:
    """A whole number within bounds."""
    bounded = number(value, what, low, high)
    if isinstance(value, Integral):
        return int(value)
    if bounded != int(bounded):
        raise Refused(f"{_opening(what)} should be a whole number; got {bounded:g}.")
    return int(bounded)


def one_of(value: object, what: str, choices: Sequence[str]) -> str:
    """One of a short list."""
    if not isinstance(value, str) or value not in choices:
        raise Refused(f"{_opening(what)} should be one of {', '.join(choices)}; {_found(value)}.")
    return value


def _is_number(value: object) -> bool:
    """Numbers as people and NumPy have them; True is none, in either."""
    return isinstance(value, Real) and type(value).__name__ not in ("bool", "bool_")


def _has_unseen(text: str, but: str = "") -> bool:
    return any(unicodedata.category(sign) in UNSEEN and sign not in but for sign in text)


def _opening(what: str) -> str:
    return f"{what[:1].upper()}{what[1:]}"


def _found(value: object) -> str:
    """What came instead, as the end of a sentence."""
    return "it is empty" if value is None or (isinstance(value, str) and not value) else f"got {_shown(value)}"


def _shown(value: object) -> str:
    """The beginning of a value, as a sentence can show it."""
    if isinstance(value, str | float) or value is None or isinstance(value, bool):
        return ascii(value)[:DIGITS_SHOWN]
    if isinstance(value, Integral):  # Python writes out no number of many thousand digits
        whole_number = int(value)
        return str(whole_number) if abs(whole_number) < 10**15 else f"about 10^{math.log10(abs(whole_number)):.0f}"
    return f"a {type(value).__name__}"
