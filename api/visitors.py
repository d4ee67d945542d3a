"""Visitors of the page: who still listens, how many runs one may have waiting, and when a session is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any

from starlette.exceptions import HTTPException

from api.limits import client_of

SESSIONS = 128
"""Sessions whose state is kept at most."""
MOST_OF_SESSION = 8
"""Runs of one session that wait or go on."""
MOST_OF_CLIENT = 40
"""Runs of one address: a class behind one router is thirty."""
MOST_UNREAD = 16
"""Runs of one address whose answers nobody reads yet; more wait for these to be read or dropped."""
UNREAD_SECONDS = 8.0
"""A run whose answer nobody reads for so long is dropped. A page reads at once."""
ADMISSION_SECONDS = 12.0
QUIET_SECONDS = 60.0
"""A session without a connection for so long is forgotten. A page that is open holds one."""


class Visitors:
    """What Gradio knows of its visitors, kept small; `page` is its Blocks, mounted and with a queue."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self._streams: Counter[str] = Counter()
        self._pulses: Counter[str] = Counter()
        self._joining: Counter[str] = Counter()
        self._silent_since: dict[str, float] = {}

    @property
    def _queue(self) -> Any:
        return self._page._queue

    @contextlib.contextmanager
    def reading(self, session: str) -> Iterator[None]:
        """While a stream of answers is open."""
        with _counted(self._streams, session):
            yield

    @contextlib.contextmanager
    def present(self, session: str) -> Iterator[None]:
        """While a page is open."""
        with _counted(self._pulses, session):
            yield

    def session_of(self, event_id: str) -> str | None:
        """The session of an event, also of one that has ended and was not read yet."""
        event = self._queue.event_ids_to_events.get(event_id)
        if event is not None:
            return str(event.session_hash)
        waiting = self._queue.pending_event_ids_session
        return next((session for session, events in waiting.items() if event_id in events), None)

    def has_answers(self, session: str | None) -> bool:
        """Whether something was or will be said to a session."""
        return session is not None and session in self._queue.pending_messages_per_session

    @contextlib.asynccontextmanager
    async def admitted(self, client: str, session: str | None) -> AsyncIterator[None]:
        """While a run is put into the queue; refuses one too many of the same visitor."""
        until = time.monotonic() + ADMISSION_SECONDS
        while self._has_unread(client, session):
            if time.monotonic() > until:
                raise HTTPException(429, f"{MOST_UNREAD} runs of your address wait and nobody reads their answers.")
            await asyncio.sleep(0.1)
        with _counted(self._joining, client), _counted(self._joining, f"session {session}"):
            yield

    def _has_unread(self, client: str, session: str | None) -> bool:
        """Whether too many runs of a client wait unread; refuses another where there are too many altogether."""
        events = self._events()
        mine = [event for event in events if client_of(event.request.scope) == client]
        joining = self._joining[client]
        same = sum(event.session_hash == session for event in events) + self._joining[f"session {session}"]
        if session is not None and same >= MOST_OF_SESSION:
            raise HTTPException(429, f"{MOST_OF_SESSION} runs of this page wait already. Let one end first.")
        if len(mine) + joining >= MOST_OF_CLIENT:
            raise HTTPException(429, f"{MOST_OF_CLIENT} runs of your address wait already. Try again soon.")
        return sum(not self._streams[event.session_hash] for event in mine) + joining >= MOST_UNREAD

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Any) -> AsyncIterator[None]:
        """Sweep once a second while the server runs."""
        task = asyncio.create_task(self._sweep_on())
        try:
            yield
        finally:
            task.cancel()

    async def _sweep_on(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self.sweep()

    async def sweep(self) -> None:
        """Drop runs that nobody reads, answers that nobody fetches, and sessions that nobody holds."""
        now = time.monotonic()
        for event in self._events():
            if not self._streams[event.session_hash] and now - event.enqueue_time > UNREAD_SECONDS:
                await self._queue.clean_events(session_hash=event.session_hash)
        busy = {event.session_hash for event in self._events()}
        self._forget_answers(now, busy)
        self._forget_sessions(busy)

    def _forget_answers(self, now: float, busy: set[str]) -> None:
        kept = {*self._queue.pending_messages_per_session, *self._queue.pending_event_ids_session}
        silent = {session for session in kept - busy if not self._streams[session]}
        self._silent_since = {session: self._silent_since.get(session, now) for session in silent}
        for session, since in self._silent_since.items():
            if now - since > UNREAD_SECONDS:
                self._queue.pending_messages_per_session.pop(session, None)
                self._queue.pending_event_ids_session.pop(session, None)

    def _forget_sessions(self, busy: set[str]) -> None:
        quiet = datetime.now() - timedelta(seconds=QUIET_SECONDS)
        states = self._page.state_holder
        for session, last in list(states.time_last_used.items()):
            if last < quiet and not (session in busy or self._streams[session] or self._pulses[session]):
                with states.lock:
                    states.session_data.pop(session, None)
                    states.time_last_used.pop(session, None)

    def _events(self) -> list[Any]:
        """Gradio's events that wait or run."""
        return list(self._queue.event_ids_to_events.values())


@contextlib.contextmanager
def _counted(counter: Counter[str], key: str) -> Iterator[None]:
    counter[key] += 1
    try:
        yield
    finally:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]
