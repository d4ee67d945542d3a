"""How fast a remote service may be asked: a rate, and pauses that it asks for."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from aiolimiter import AsyncLimiter


class Pace:
    """At most so many turns a second, any two 1 / per_second apart, also from one call to the next."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._last = self._free_at = -math.inf
        self.begin()

    def begin(self) -> None:
        """Before the first turn in an event loop: a limiter belongs to one loop."""
        self._limiter = AsyncLimiter(1, self._gap)
        self._free_at = max(self._free_at, self._last + self._gap)

    async def turn(self) -> None:
        """Return when it is one's turn."""
        await self._limiter.acquire()
        while (wait := self._free_at - time.monotonic()) > 0:
            await asyncio.sleep(wait)
            await self._limiter.acquire()  # once more: others have waited for the same moment
        self._last = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Nobody's turn for so long."""
        self._free_at = max(self._free_at, time.monotonic() + seconds)


def seconds(retry_after: str | None) -> float | None:
    """What a Retry-After header asks for: a number of seconds, or the time until an HTTP date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        then = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (then.astimezone(UTC) - datetime.now(UTC)).total_seconds())
