"""The login: one name and password, and few wrong ones a minute."""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Awaitable, Callable, Mapping

from starlette.exceptions import HTTPException

from api.limits import CountsByClient, FadingCount

FREE = 5
"""Wrong passwords that one client may give in a row; then one every few seconds."""
SECONDS_EACH = 3.0
FREE_FOR_ALL = 60
"""Wrong passwords of all clients together; then those who gave one wait, and a new client is answered later."""
SECONDS_EACH_FOR_ALL = 0.2
PAUSE = 0.5
"""Seconds before a wrong password is answered."""


class Login:
    """Who may come in."""

    def __init__(self, name: str, password: str) -> None:
        self._name, self._password = name.strip(), password
        self._wrong, self._wrong_of_all = CountsByClient(1 / SECONDS_EACH), FadingCount(1 / SECONDS_EACH_FOR_ALL)
        self._turns = asyncio.Semaphore()
        self.is_signed_in: Callable[[Mapping[str, str]], bool] = lambda cookies: False
        """Whether a request's cookies are those of a visitor who has logged in."""

    def check(self, name: str, password: str) -> bool:
        """Whether both are right, in a time that does not tell which of them was wrong."""
        right_name = hmac.compare_digest(_bytes(name), _bytes(self._name))
        right_password = hmac.compare_digest(_bytes(password), _bytes(self._password))
        return right_name & right_password

    async def attempt(self, client: str, ask: Callable[[], Awaitable[int]]) -> None:
        """Let a client try, which is `ask` with the status of its answer; refuse one that failed too often."""
        mine = self._wrong.of(client)
        if self._wrong_of_all.now() >= FREE_FOR_ALL and mine.now() == 0:
            await asyncio.sleep(PAUSE)
        async with self._turns:  # one at a time, so that many at once count as many
            busy = self._wrong_of_all.now() >= FREE_FOR_ALL and mine.now() > 0
            refused = busy or mine.now() > FREE - 1
            if not refused and await ask() == 400:
                mine.add()
                self._wrong_of_all.add()
        if refused:
            await asyncio.sleep(PAUSE)
            seconds = math.ceil((mine.now() - FREE + 1) * SECONDS_EACH) if not busy else math.ceil(SECONDS_EACH)
            wait = f"Too many wrong passwords. Try again in {max(seconds, 1)} seconds."
            raise HTTPException(429, wait, {"retry-after": str(max(seconds, 1))})


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
