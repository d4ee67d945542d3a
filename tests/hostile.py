"""A scoring service on this machine that fails in every way we know of, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from evaluation.services import CATEGORIES, OpenAI, Perspective, Service

KEY = "sk-do-not-show-this-key"


def share_of_e(text: str) -> float:
    """The score that the service gives."""
    return text.count("e") / len(text)


@dataclass
class Hostile:
    """What the server does, and what it saw."""

    port: int = 0
    faults: dict[str, list[str]] = field(default_factory=dict)
    """By a text's word: what goes wrong with requests that hold it, one fault after the other; the last may be "…"."""
    asked: list[list[str]] = field(default_factory=list)
    """The texts of each request."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    """How often each text was given a score."""

    def forget(self) -> Hostile:
        """A new day at the same address."""
        self.__init__(self.port)  # type: ignore[misc]
        return self

    def service(self, kind: str, per_second: float = 1000.0) -> Service:
        """Ours to ask instead of the real one."""
        made = {"openai": OpenAI(), "perspective": Perspective(ends=None)}[kind]
        return replace(made, url=f"http://127.0.0.1:{self.port}/{kind}", per_second=per_second)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        openai = request.path == "/openai"
        texts = body["input"] if openai else [body["comment"]["text"]]
        self.times.append(time.monotonic())
        self.asked.append(texts)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.queries.append(dict(request.query))
        fault = self.fault(texts)
        if fault:
            return await broken(request, fault)
        self.answered.update(texts)
        return web.json_response(openai_answer(texts) if openai else perspective_answer(texts[0]))

    def fault(self, texts: Sequence[str]) -> str:
        """The next thing that goes wrong with these texts."""
        for word, faults in self.faults.items():
            if faults and any(word in text for text in texts):
                return faults.pop(0) if len(faults) < 2 or faults[1] != "…" else faults[0]
        return ""


async def broken(request: web.Request, fault: str) -> web.StreamResponse:
    """400, 401 …: that status; "429 after 2": with Retry-After; or a way to break an answer."""
    status, _, wait = fault.partition(" after ")
    if status.isdigit():
        headers = {"Retry-After": wait} if wait else {"Location": "/openai"} if status == "302" else {}
        return web.json_response(error(status), status=int(status), headers=headers)
    if fault == "bad key":  # as Google says it
        details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
        return web.json_response({"error": {"code": 400, "message": KEY, "details": details}}, status=400)
    if fault == "hang":
        await asyncio.sleep(30)
    if fault == "half":
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"results": [')
        assert request.transport
        request.transport.close()
        return response
    if fault == "short":
        return web.json_response({**openai_answer([]), "attributeScores": {}})
    if fault == "not json":
        return web.Response(text="<html>busy</html>")
    if fault == "not a score":
        return web.Response(text=json.dumps(perspective_answer("e") | openai_answer(["e"])).replace("1.0", "NaN"))
    raise ValueError(fault)


def error(status: str) -> dict[str, Any]:
    """An error in the shape of either service, which quotes the key."""
    kind = {"400": "COMMENT_TOO_LONG", "401": "invalid_api_key", "422": KEY}.get(status, "SERVER_ERROR")
    details = [{"errorType": kind}]
    return {"error": {"message": f"Bad: {KEY}", "code": kind, "type": KEY, "status": KEY, "details": details}}


def openai_answer(texts: Sequence[str]) -> dict[str, Any]:
    results = [
        {
            "flagged": False,
            "category_scores": {**dict.fromkeys(CATEGORIES, 0.0), "violence": 1.0, kind: share_of_e(text)},
        }
        for text, kind in zip(texts, CATEGORIES * len(texts), strict=False)
    ]
    return {"id": "modr-1", "model": "omni-moderation-2024-09-26", "results": results}


def perspective_answer(text: str) -> dict[str, Any]:
    score = {"value": share_of_e(text), "type": "PROBABILITY"}
    return {"attributeScores": {"TOXICITY": {"summaryScore": score}}, "languages": ["en"]}


@contextmanager
def hostile() -> Iterator[Hostile]:
    """The service, in a thread of its own."""
    server, loop, ready = Hostile(), asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        application = web.Application()
        application.router.add_post("/{kind}", server.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        return runner

    def serve() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
