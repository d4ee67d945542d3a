"""Connections end when their other side stays silent or does not read; one client has a bounded number of them."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 20.0
"""For the head of a request to arrive."""
READ_SECONDS = 60.0
"""For a client to take what waits for it."""
MOST_CONNECTIONS = max(64, min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0]) - 256)
"""Files and models need descriptors too."""
MOST_OF_CLIENT = MOST_CONNECTIONS * 3 // 5
"""A class behind one router: thirty browsers with up to six connections each, and room for more."""


class BoundedConnection(H11Protocol):
    """One connection of uvicorn's, with limits that uvicorn does not have."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        host = self.client[0] if self.client else None
        same = sum(1 for other in self.connections if (getattr(other, "client", None) or (None,))[0] == host)
        if len(self.connections) > MOST_CONNECTIONS or same > MOST_OF_CLIENT:
            transport.abort()
            return
        self._start("head", HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._start("head", HEAD_SECONDS)
        else:
            self._end("head")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start("read", READ_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end("read")

    def connection_lost(self, exc: Exception | None) -> None:
        for what in list(self._timers):
            self._end(what)
        super().connection_lost(exc)

    def _start(self, what: str, seconds: float) -> None:
        """Cut the connection in so many seconds, unless something ends the wait."""
        if what not in self._timers:
            self._timers[what] = self.loop.call_later(seconds, self.transport.abort)

    def _end(self, what: str) -> None:
        if timer := self._timers.pop(what, None):
            timer.cancel()
