"""The newest run of each browser session: asking for another stops the one before it."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import count
from threading import Event, Lock

REMEMBERED = 1000
"""Sessions to remember; the one that was quiet for longest is forgotten."""


@dataclass
class _Session:
    ticket: int = 0
    stop: Event = field(default_factory=Event)


class Runs:
    """Tickets and stop signs by session.

    A run takes its ticket when it is asked for and shows it when its turn in the queue has come. By then a later
    ticket may be out, or the page closed; the run then has nothing to do.
    """

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._tickets = count(1)  # no two sessions have one ticket, nor does a session that comes again
        self._lock = Lock()

    def ask(self, session: str) -> int:
        """Stop what the session has running and give out the ticket of its next run."""
        with self._lock:
            mine = self._of(session)
            mine.stop.set()
            mine.ticket = next(self._tickets)
            return mine.ticket

    def begin(self, session: str, ticket: int) -> Event | None:
        """The stop sign of a run whose turn has come; None if the session has asked for another since, or is gone.

        A program that runs without asking has the ticket 0.
        """
        with self._lock:
            if ticket and session not in self._sessions:
                return None
            mine = self._of(session)
            if ticket < mine.ticket:
                return None
            mine.stop = Event()
            return mine.stop

    def stop(self, session: str) -> None:
        """Stop what is running, and what still waits in the queue."""
        self.ask(session)

    def forget(self, session: str) -> None:
        """The page was closed."""
        with self._lock:
            known = self._sessions.pop(session, None)
        if known is not None:
            known.stop.set()

    def _of(self, session: str) -> _Session:
        mine = self._sessions.setdefault(session, _Session())
        self._sessions.move_to_end(session)
        if len(self._sessions) > REMEMBERED:
            _, oldest = self._sessions.popitem(last=False)
            oldest.stop.set()
        return mine
