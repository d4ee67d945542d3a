"""What a visitor saw last, for a while: a bounded store on the server, instead of state kept for every session."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")
MOST_SESSIONS = 100
"""Sessions to keep something for; the one that was quiet for longest loses it."""


class Recent(Generic[Value]):
    """The newest value of each of the last sessions."""

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most = most
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._lock = Lock()

    def keep(self, session: str, value: Value) -> None:
        with self._lock:
            self._values[session] = value
            self._values.move_to_end(session)
            if len(self._values) > self._most:
                self._values.popitem(last=False)

    def get(self, session: str) -> Value | None:
        with self._lock:
            return self._values.get(session)

    def forget(self, session: str) -> None:
        with self._lock:
            self._values.pop(session, None)
