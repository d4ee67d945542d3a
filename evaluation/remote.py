"""Scores over the network: slowly enough, again after what passes, a reason for what does not; the key stays here."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from evaluation.event_loop import run_to_the_end
from evaluation.pace import Pace, seconds
from evaluation.services import ALTERNATIVES, Service

IN_FLIGHT = 8  # requests that may be under way together
TRIES = 6
TIMEOUT = 30.0  # seconds that one request may take
FIRST_WAIT = 2.0  # seconds before the second try at most; twice as long before each further one
LONGEST_WAIT = 300.0  # seconds that a service may ask for before we rather stop
PATIENCE = 20  # requests in a row that may fail after all their tries, or texts that may be refused
KEY_ERRORS = ("api key invalid", "invalid api key")
NO_CONNECTION, OVER_QUOTA = "no connection", "over its quota (429)"
AGAIN = "What it scored so far is kept where there is a cache: the same command again goes on from there."


class ScorerStopped(RuntimeError):
    """The service will answer no text for now."""

    scores: Sequence[float | None] = ()
    """What the texts of the call had scored until then, in order; None where there is nothing yet."""


class NoScore(Exception):
    """A request that brought nothing; its words are a kind of failure, and hold neither text nor key."""


class Passing(NoScore):
    """A failure that may be gone in a while."""

    retry_after: float | None = None
    """Seconds that the service asks to wait for."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    content: Any
    """Its JSON; None where it is none."""
    retry_after: str | None
    """Seconds, or a date."""


class Remote:
    """A scorer behind a network; texts that it refuses or fails on are missing, and counted by kind.

    The rate is that of one process: let no two ask the same service at once.
    """

    def __init__(
        self,
        service: Service,
        key: str | None = None,
        timeout: float = TIMEOUT,
        first_wait: float = FIRST_WAIT,
        today: date | None = None,
    ) -> None:
        self.service, self.timeout, self.first_wait, self.today = service, timeout, first_wait, today
        self.name, self.version = service.name, service.version
        self.missing: Counter[str] = Counter()
        self.at_once = IN_FLIGHT * service.texts_at_once
        self._key, self._pace, self._failed = key or "", Pace(service.per_second), 0

    def __call__(self, texts: Sequence[str]) -> list[float | None]:
        """One score per text, in order; None where there is none."""
        self._ready()
        return run_to_the_end(self._all(texts))

    def _ready(self) -> None:
        """Looked at when a text is to be sent, so that scores in a cache need neither key nor service."""
        service = self.service
        if service.ends and (self.today or datetime.now(UTC).date()) > service.ends:
            raise ScorerStopped(ended(service))
        self._key = self._key or os.environ.get(service.key_from, "").strip()
        if not self._key or not self._key.isascii() or not self._key.isprintable():
            raise ScorerStopped(f"{service.name} needs a key. Put it into the environment variable {service.key_from}.")

    async def _all(self, texts: Sequence[str]) -> list[float | None]:
        """Requests side by side; the first that stops the scorer stops them all."""
        size, places = self.service.texts_at_once, asyncio.Semaphore(IN_FLIGHT)
        self._pace.begin()
        scores: list[float | None] = [None] * len(texts)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.timeout)) as session:

            async def in_its_place(part: slice) -> None:
                async with places:
                    scores[part] = await self._scored(session, texts[part])

            try:
                async with asyncio.TaskGroup() as group:
                    for start in range(0, len(texts), size):
                        group.create_task(in_its_place(slice(start, start + size)))
            except ExceptionGroup as failures:
                stopped = failures.exceptions[0]
            else:
                return scores
        if isinstance(stopped, ScorerStopped):
            stopped.scores = scores
        raise stopped

    async def _scored(self, session: aiohttp.ClientSession, texts: Sequence[str]) -> list[float | None]:
        """The scores of one request; where it fails, of each half alone, so that one text spoils no other."""
        try:
            return [*await self._asked(session, texts)]
        except NoScore as failure:
            if len(texts) == 1:
                self.missing[str(failure)] += 1
                return [None]
        half = len(texts) // 2
        return await self._scored(session, texts[:half]) + await self._scored(session, texts[half:])

    async def _asked(self, session: aiohttp.ClientSession, texts: Sequence[str]) -> list[float]:
        """One request, again and again while that may help."""
        try:
            return await retrying(self.first_wait)(self._asked_once, session, texts)
        except Passing as failure:
            self._failed += 1
            if str(failure) in (NO_CONNECTION, OVER_QUOTA) or self._failed >= PATIENCE:
                raise ScorerStopped(
                    f"{self.name} was asked {TRIES} times and gave no score: {failure}. {AGAIN}"
                ) from None
            raise

    async def _asked_once(self, session: aiohttp.ClientSession, texts: Sequence[str]) -> list[float]:
        """One request; where the service says for how long, nobody asks it in the meantime."""
        await self._pace.turn()
        answer = await self._post(session, texts)
        try:
            scores = self._read(answer, len(texts))
        except Passing as failure:
            failure.retry_after = seconds(answer.retry_after) if isinstance(answer, Answer) else None
            if failure.retry_after is not None:
                self._obey(failure.retry_after)
            raise
        except NoScore as refusal:
            self._count(refusal, texts)
            raise
        self._failed = 0
        return scores

    def _obey(self, wait: float) -> None:
        if wait > LONGEST_WAIT:
            raise ScorerStopped(f"{self.name} asks us to wait for {wait:,.0f} seconds. {AGAIN}")
        self._pace.pause(wait)

    def _count(self, refusal: NoScore, texts: Sequence[str]) -> None:
        """A few texts may be refused, not one after the other; of several at once, one may be to blame."""
        self._failed += len(texts) == 1
        if self._failed >= PATIENCE:
            raise ScorerStopped(
                f"{self.name} refused {PATIENCE} texts in a row: {refusal}. See whether it takes such texts, and leave "
                f"out those that it does not. {AGAIN}"
            ) from refusal

    async def _post(self, session: aiohttp.ClientSession, texts: Sequence[str]) -> Answer | str:
        """The answer, or why there is none; no error of aiohttp's leaves here, since some show the URL."""
        asked = self.service.request(texts, self._key)
        try:
            async with session.post(self.service.url, allow_redirects=False, **asked) as response:
                body = await response.read()
                return Answer(response.status, parsed(body), response.headers.get("Retry-After"))
        except aiohttp.ClientConnectorError:
            return NO_CONNECTION
        except TimeoutError:
            return "timed out"
        except aiohttp.ClientError:
            return "connection lost"

    def _read(self, answer: Answer | str, n: int) -> list[float]:
        """The scores in an answer, or what kind of failure it is."""
        if isinstance(answer, str):
            raise Passing(answer)
        if answer.status != 200:
            raise self._refusal(answer)
        try:
            scores = self.service.scores(answer.content)
        except (LookupError, TypeError, ValueError):
            raise Passing("unreadable answer") from None
        if len(scores) != n:
            raise Passing("wrong number of scores")
        return scores

    def _refusal(self, answer: Answer) -> Exception:
        """What an HTTP status other than 200 means."""
        status, service = answer.status, self.service
        kind = service.error(answer.content)
        if status in (401, 403) or kind in KEY_ERRORS:
            return ScorerStopped(f"{service.name} refused the key in {service.key_from} ({status}). Mend or renew it.")
        if status in (404, 410):
            return ScorerStopped(
                ended(service) if service.ends else f"{service.name} is not at {service.url} ({status})."
            )
        if status == 429:
            return Passing(OVER_QUOTA)
        if 400 <= status < 500 and status != 408:
            return NoScore(kind or f"refused ({status})")
        return Passing(f"error {status}")


def retrying(first_wait: float) -> AsyncRetrying:
    """Tries again after passing failures: after a random while (full jitter), or when the service said.

    One serves one request, since it counts the attempts.
    """
    jitter = wait_random_exponential(multiplier=first_wait)

    def wait(state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        return 0.0 if isinstance(failure, Passing) and failure.retry_after is not None else jitter(state)

    return AsyncRetrying(
        retry=retry_if_exception_type(Passing), stop=stop_after_attempt(TRIES), wait=wait, reraise=True
    )


def ended(service: Service) -> str:
    """What to do without a service that is gone."""
    return f"{service.name} answers no longer; its last day is {service.ends:%d %B %Y}. {ALTERNATIVES}"


def parsed(body: bytes) -> Any:
    """The JSON in a body; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
