"""The guard: looks at every request before Gradio does, and lets through what a page needs."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.answers import call_answer, hide_folder, login_page
from api.bodies import MOST_BYTES, read_json
from api.calls import Endpoints, check_session
from api.headers import with_security
from api.hosts import Hosts, check_origin
from api.limits import client_of
from api.logins import PAUSE, Login
from api.routes import Route, routes_at
from api.visitors import Visitors

EXPORTS = "/exports"
"""What the folder of files to hand out is called in answers and addresses."""
LONGEST_TARGET = 2000
"""Characters of a path, and of a query."""
BODY_SECONDS = 20.0
"""For a whole body to arrive."""
DROPPED = (
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-server",
    b"forwarded",
    b"origin",
    b"range",
    b"if-range",
)
"""Headers that were checked, or that nobody needs and Gradio misreads."""
OURS = ("page", "deep_link")
"""Query parameters that make Gradio look for pages and files that we do not have."""


@dataclass(frozen=True)
class Rules:
    """What a guard goes by."""

    endpoints: Endpoints
    visitors: Visitors
    exports: Path
    """The folder of files to hand out."""
    hosts: Hosts
    login: Login | None


class Guard:
    """Middleware that refuses what the page does not need, each time with a sentence."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, secured(send))
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            route, scope = self._admitted(scope)
            session = self._session(route, scope)
            if scope["method"] == "POST":
                body = await read_body(receive)
                if route.kind != "login":
                    checked = self._checked(route, scope, body)
                    session, body = checked.get("session_hash"), json.dumps(checked).encode()
                receive = replaying(body, receive)
            await self._pass_on(route, scope, receive, send, session)
        except HTTPException as refusal:
            response = JSONResponse({"detail": refusal.detail}, refusal.status_code, refusal.headers)
            await response(scope, receive, send)

    async def _pass_on(self, route: Route, scope: Scope, receive: Receive, send: Send, session: str | None) -> None:
        """Hand a request to Gradio, and know meanwhile whose it is."""
        visitors, changed = self._rules.visitors, self._changed(route, scope, send)
        if route.kind == "login":
            await self._log_in(scope, receive, send)
        elif route.kind in ("join", "call", "call by name"):
            async with visitors.admitted(client_of(scope), session):
                await self._app(scope, receive, changed)
        elif session is not None and route.kind in ("stream", "pulse"):
            with visitors.reading(session) if route.kind == "stream" else visitors.present(session):
                await self._app(scope, receive, changed)
        else:
            await self._app(scope, receive, changed)

    def _session(self, route: Route, scope: Scope) -> str | None:
        """The session that a path or a query names."""
        named = route.match(scope["path"])
        assert named
        if route.kind == "pulse":
            return check_session(named["session"])
        if route.kind != "stream":
            return None
        event, visitors = named.groupdict().get("event"), self._rules.visitors
        session = visitors.session_of(event) if event else check_session(dict(query(scope)).get("session_hash"))
        if not visitors.has_answers(session):
            raise HTTPException(404, "Nothing is said to such a session, or it waited too long for its reader.")
        return session

    def _changed(self, route: Route, scope: Scope, send: Send) -> Send:
        """What is done to an answer on its way out."""
        if route.kind == "run":
            return call_answer(send)
        if route.kind == "stream":
            return hide_folder(send, str(self._rules.exports).encode(), EXPORTS.encode())
        stranger = self._rules.login and not self._rules.login.is_signed_in(HTTPConnection(scope).cookies)
        return login_page(send) if stranger and scope["path"] == "/" and scope["method"] == "GET" else send

    async def _log_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a name and a password on; a wrong one is answered late."""
        login = self._rules.login
        assert login
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        async def ask() -> int:
            await self._app(scope, receive, keep)
            return int(answer[0]["status"])

        await login.attempt(client_of(scope), ask)
        if answer[0]["status"] == 400:
            await asyncio.sleep(PAUSE)
        for message in answer:
            await send(message)

    def _admitted(self, scope: Scope) -> tuple[Route, Scope]:
        """The route of a request that may come in, and the request as Gradio shall see it."""
        headers = Headers(scope=scope)
        path = scope["path"].replace(f"file={EXPORTS}/", f"file={self._rules.exports}/", 1)
        scope = {**scope, "path": path}
        check_target(scope)
        self._check_hosts(headers)
        routes = routes_at(path)
        if not routes:
            raise HTTPException(404, "There is nothing here.")
        route = next((route for route in routes if scope["method"] in route.methods), None)
        if route is None:
            allowed = ", ".join(method for route in routes for method in route.methods)
            raise HTTPException(405, f"This takes {allowed}.", {"allow": allowed})
        if not (route.public and scope["method"] in ("GET", "HEAD")):
            check_origin(headers, headers.get("x-forwarded-host") or headers["host"])
        self._check_login(route, scope)
        if route.kind == "export" and not is_export(path.partition("file=")[2], self._rules.exports):
            raise HTTPException(404, "There is no such file to hand out.")
        # an answer that is read here must not be compressed
        is_read = scope["method"] == "POST" or route.kind == "stream" or (self._rules.login is not None and path == "/")
        return route, cleaned(scope, {*DROPPED, b"accept-encoding"} if is_read else {*DROPPED})

    def _check_login(self, route: Route, scope: Scope) -> None:
        login = self._rules.login
        if route.kind == "login" and login is None:
            raise HTTPException(404, "This server asks nobody who they are.")
        if login and not route.public and not login.is_signed_in(HTTPConnection(scope).cookies):
            raise HTTPException(401, "Log in first.")

    def _check_hosts(self, headers: Headers) -> None:
        """Also the host that a proxy passes on: Gradio puts it into its page."""
        hosts = [*headers.getlist("host"), *headers.getlist("x-forwarded-host")]
        if len(headers.getlist("host")) != 1:
            raise HTTPException(400, "A request names one Host.")
        for host in hosts:
            self._rules.hosts.check_host(host)

    def _checked(self, route: Route, scope: Scope, body: bytes) -> dict[str, Any]:
        """The body as Gradio shall see it."""
        if Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "The body should be JSON. Send it with Content-Type: application/json.")
        given, endpoints = read_json(body), self._rules.endpoints
        named = route.match(scope["path"])
        name = named.groupdict().get("endpoint", "") if named else ""
        if route.kind == "run":
            return endpoints.checked_run(name, given)
        if route.kind == "call":
            return endpoints.checked_call(name, given)
        if route.kind == "call by name":
            return endpoints.checked_call_by_name(name, given)
        return endpoints.checked_join(given) if route.kind == "join" else endpoints.checked_cancel(given)


def check_target(scope: Scope) -> None:
    """Refuse paths and queries that no link of the page has."""
    path, raw = scope["path"], scope.get("raw_path") or b""
    if len(raw) > LONGEST_TARGET or len(scope["query_string"]) > LONGEST_TARGET:
        raise HTTPException(414, f"A path and a query have at most {LONGEST_TARGET:,} characters each.")
    if not path.isprintable() or "\\" in path or "\ufffd" in path or ".." in path.split("/"):
        raise HTTPException(400, "The path holds what no path of this page does.")
    if not scope["query_string"].isascii() or any(len(part) > 250 for part in path.split("/")):
        raise HTTPException(400, "The address holds what no address of this page does.")


def query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True)


def cleaned(scope: Scope, dropped: set[bytes]) -> Scope:
    """The request without what was checked already and without what Gradio misreads."""
    kept = [(name, value) for name, value in query(scope) if name not in OURS]
    headers = [(name, value) for name, value in scope["headers"] if name not in dropped]
    return {**scope, "query_string": urlencode(kept).encode(), "headers": headers}


def is_export(path: str, folder: Path) -> bool:
    """Whether a path is a file in the folder of exports, by no detour."""
    return os.path.realpath(path) == path and Path(path).is_relative_to(folder.resolve()) and os.path.isfile(path)


async def read_body(receive: Receive) -> bytes:
    """The whole body, bounded in size and in time."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HTTPException(400, "The body ended early.")
                body += message.get("body", b"")
                if len(body) > MOST_BYTES:
                    raise HTTPException(413, f"A body has at most {MOST_BYTES:,} bytes.", {"connection": "close"})
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        late = f"The body did not arrive within {BODY_SECONDS:g} seconds."
        raise HTTPException(408, late, {"connection": "close"}) from None


def replaying(body: bytes, receive: Receive) -> Receive:
    """Gives the checked body, then whatever comes, which is the end of the connection."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def secured(send: Send) -> Send:
    """Every answer gets the headers that tell a browser what the page may do."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": with_security(message.get("headers", []))}
        await send(message)

    return with_headers
