"""Requests that nobody with good intentions sends, drawn at random: what `benchmarks.hostile` throws at the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

# fmt: off
NUMBERS = range(-3, 60)
"""Numbers of functions: the page's own, and beyond."""
NAMES = ("generate", "generate_1", "show", "leave", "menu", "predict", "nothing", "%00", "..", "a" * 300, "é", "v2")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get")
TYPES = ("application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x", "", "\xff",
         "application/x-www-form-urlencoded", "application/json; charset=utf-16", "application/xml", "x" * 500)
CLOSED = ("upload", "proxy=http://127.0.0.1:1/", "deep_link?session_hash=x", "startup-events", "openapi.json", "user",
          "token", "component_server", "process_recording", "vibe-code", "stream/a", "stream/a/b/1/playlist-file",
          "custom_component/a/client/b/c", "run-history/buckets", "upload_progress?upload_id=x")
ASSETS = ("/static/", "/assets/", "/svelte/", "/", "/static/img/", "/assets/../", "/config/", "/monitoring/", "/dev/")
HOSTS = ("evil.example", "", "localhost@evil.example", "127.0.0.1.evil.example", "[::1", "a b", "x" * 3000, "10.0.0.1")
ORIGINS = ("http://evil.example", "null", "http://localhost:1", "", "file://", "http://[", "http://127.0.0.1:99999")
HEADERS = ("X-Forwarded-Host: evil.example", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: javascript", "TE: x",
           "Range: bytes=5-2-9", "Range: bytes=0-99999999999999", "Cookie: \xff=\xfe; a", "If-None-Match: *",
           "Upgrade: websocket", "Expect: 100-continue", "Accept-Encoding: br;q=x, gzip", "Transfer-Encoding: chunked",
           "Sec-Fetch-Site: cross-site", "Accept-Language: \xff", "Authorization: Bearer x", "X: " + "y" * 20_000)
PLAIN: tuple[Any, ...] = (
    None, True, -1, 2**70, 1e308, float("nan"), float("-inf"), "", "x" * 5000, "<script>", "../..", "/etc/passwd",
    "\x00", "demo-10", "iti", "builtin", [], {}, [[]], {"__type__": "update"}, ["demo-10"], "L0H0", 8, 0.5)
"""Wrong inputs of every type."""
FIELDS = ("data", "fn_index", "session_hash", "trigger_id", "event_data", "event_id", "batched", "simple_format")
BROKEN = (b"", b"{", b"\xff\xfe", b"null", b"[]", b'"\\ud800"', b"[" * 100_000, b'{"data":' * 5000, b"x" * 300_000,
          b'{"data": [1e999999]}', b'{"data": [' + b"9" * 5000 + b"]}", b'{"data": ["\\ud800"], "fn_index": NaN}',
          b"\x00" * 50, b'{"data": [NaN], "fn_index": "8"}')
"""Bodies that are no JSON, or too much of it."""
# fmt: on


@dataclass(frozen=True)
class HostileRequest:
    """One request as it goes over the wire."""

    kind: str
    wire: bytes
    stays_open: bool = False
    """Whether it is cut short on purpose, so that no answer is due."""
    session: str = ""
    """Whose answers are read afterwards."""


@dataclass(frozen=True)
class Source:
    """Draws requests against the server of a host and port; `secret` is a file that must not come back."""

    rng: Random
    host: str
    secret: Path
    given: Sequence[Any]
    """The inputs of a run as the page would send them, to be spoilt."""
    functions: Sequence[tuple[int, int, bool]]
    """The page's functions: number, inputs, and whether they wait in the queue."""

    def draw(self) -> HostileRequest:
        kind = self.rng.choice(sorted(KINDS))
        return KINDS[kind](self)

    def write(self, method: str, target: str, body: bytes | None = None, *more: str, host: str | None = None) -> bytes:
        """A request with its head; targets and headers may hold any character of latin-1."""
        head = [
            f"{method} {target} HTTP/1.1",
            f"Host: {self.host if host is None else host}",
            "Connection: close",
            *more,
        ]
        if body is not None and not any(line.lower().startswith(("content-length", "transfer")) for line in more):
            head.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*head, "", ""]).encode("latin-1", "replace") + (body or b"")

    def post(self, road: str, body: Any, *more: str) -> bytes:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.write("POST", f"/gradio_api/{road}", text, "Content-Type: application/json", *more)

    def value(self, depth: int = 0, plain: bool = False) -> Any:
        """Something that a careless function takes for a file, a number or a text; if plain, no file."""
        pick = self.rng.choice
        if depth < 3 and self.rng.random() < 0.15:
            return {"head": self.value(depth + 1, plain)}
        if plain:
            return pick(PLAIN)
        file = {"path": pick((str(self.secret), "/etc/passwd", "../app.py")), "meta": {"_type": "gradio.FileData"}}
        return pick((*PLAIN, "\ud800", file, [file], {"value": file}, 10**400))

    def data(self) -> list[Any]:
        """The inputs of a run, some of them spoilt."""
        data = list(self.given) if self.rng.random() < 0.7 else [None] * self.rng.randrange(6)
        for _ in range(self.rng.randrange(1, 4)):
            if data:
                data[self.rng.randrange(len(data))] = self.value()
        return data

    def body(self) -> dict[str, Any]:
        """A call with wrong inputs, wrong fields, or both."""
        pick, number = self.rng.choice, self.rng.choice(NUMBERS)
        body = {"data": self.data(), "fn_index": number, "session_hash": f"h{self.rng.randrange(2000)}"}
        for _ in range(self.rng.randrange(3)):
            body[pick(FIELDS)] = self.value()
        if self.rng.random() < 0.2:
            body.pop(pick(sorted(body)))
        return body


def paths(source: Source) -> HostileRequest:
    """Files by paths of every spelling."""
    pick, file = source.rng.choice, source.rng.choice((str(source.secret), "/etc/passwd", "/proc/self/environ"))
    spelt = pick(
        (
            file,
            file.replace("/", "%2f"),
            "/.." * 9 + file,
            "/%2e%2e" * 9 + file,
            f"{file}%00.png",
            f"file://{file}",
            "\\..\\.." + file,
            "/" * 50 + file,
            "x" * 3000,
            "%ff%fe",
            "%",
            "a/" * 900,
            "\x01",
            "é",
        )
    )
    root = pick(("/gradio_api/file=", "/gradio_api/file/", "/gradio_api/proxy=", *ASSETS))
    return HostileRequest("paths", source.write(pick(("GET", "HEAD")), (root + spelt).replace(" ", "%20")))


def closed(source: Source) -> HostileRequest:
    """Routes that are not open."""
    target = f"/gradio_api/{source.rng.choice(CLOSED)}"
    wire = source.write(source.rng.choice(METHODS), target, json.dumps(source.body()).encode())
    return HostileRequest("closed", wire)


def hosts(source: Source) -> HostileRequest:
    """Other hosts, other origins."""
    pick = source.rng.choice
    if source.rng.random() < 0.5:
        return HostileRequest("hosts", source.write("GET", pick(("/", "/config", "/logout")), None, host=pick(HOSTS)))
    return HostileRequest("hosts", source.post("queue/join", source.body(), f"Origin: {pick(ORIGINS)}"))


def methods(source: Source) -> HostileRequest:
    """Wrong methods, headers and types of content."""
    pick, road = source.rng.choice, source.rng.choice(("queue/join", "run/predict", "call/generate", "cancel", "info"))
    more = [f"Content-Type: {pick(TYPES)}", pick(HEADERS)]
    wire = source.write(pick(METHODS), f"/gradio_api/{road}", json.dumps(source.body()).encode(), *more)
    return HostileRequest("methods", wire)


def bodies(source: Source) -> HostileRequest:
    """Bodies that are no JSON, or too much of one."""
    raw = source.rng.choice(BROKEN)
    road = source.rng.choice(("queue/join", "run/predict", "api/predict", "call/generate", "call/v2/generate", "reset"))
    return HostileRequest("bodies", source.post(road, raw))


def calls(source: Source) -> HostileRequest:
    """Functions that do not exist, inputs that are none."""
    pick, name = source.rng.choice, source.rng.choice(NAMES)
    road = pick((f"run/{name}", f"api/{name}", "run/predict", "queue/join"))
    return HostileRequest("calls", source.post(road, source.body()))


def inputs(source: Source) -> HostileRequest:
    """Functions of the page with as many inputs as they take, and wrong ones; what waits in the queue is read."""
    number, many, queued = source.rng.choice(source.functions)
    data = [0, *source.given] if many == len(source.given) + 1 else [source.value(plain=True) for _ in range(many)]
    for _ in range(source.rng.randrange(4) if many else 0):
        data[source.rng.randrange(many)] = source.value(plain=True)
    session = f"i{source.rng.randrange(10**6)}"
    body = {"data": data, "fn_index": number, "session_hash": session, "event_data": source.value(plain=True)}
    wire = source.post("queue/join" if queued else "run/predict", body)
    return HostileRequest("inputs", wire, session=session if queued else "")


def programs(source: Source) -> HostileRequest:
    """Calls by name, with fields missing and too many."""
    pick, name = source.rng.choice, source.rng.choice(NAMES)
    fields = {pick(("a", "b", "prompt", "method", "strength", "x", "where")): source.value() for _ in range(5)}
    if source.rng.random() < 0.5:
        return HostileRequest("programs", source.post(f"call/v2/{name}", fields))
    return HostileRequest("programs", source.post(f"call/{name}", {"data": source.data()}))


def readers(source: Source) -> HostileRequest:
    """Streams that do not exist, and answers to runs of others."""
    session = source.rng.choice(("x", "", "%00", "\xff", "h1", "é", "x" * 1500, "h1&session_hash=h2"))
    road = source.rng.choice(
        (
            f"queue/data?session_hash={session}",
            f"call/generate/{session}",
            f"heartbeat/{session}?x",
            "queue/data",
            f"call/v2/generate/{session}",
            "queue/status",
        )
    )
    return HostileRequest("readers", source.write("GET", f"/gradio_api/{road}"), stays_open="heartbeat" in road)


def pages(source: Source) -> HostileRequest:
    """The page with parameters that lead elsewhere."""
    pick = source.rng.choice
    target = pick(("/", "/config", "/gradio_api/info", "/theme.css", "/login", "/gradio_api/app_id", "/manifest.json"))
    query = pick(
        ("page=x", "deep_link=../../x", "all_endpoints=1", "%ff=%fe", "a" * 5000, "__theme=dark", "page=&page=y")
    )
    return HostileRequest("pages", source.write(pick(("GET", "HEAD", "POST")), f"{target}?{query}"))


def unfinished(source: Source) -> HostileRequest:
    """Requests that end in the middle."""
    whole = source.post("queue/join", source.body())
    return HostileRequest("unfinished", whole[: source.rng.randrange(1, len(whole))], stays_open=True)


def unread(source: Source) -> HostileRequest:
    """Runs whose answers nobody reads."""
    run = {"data": source.given} if source.rng.random() < 0.3 else {"data": source.given[: source.rng.randrange(20)]}
    return HostileRequest("unread", source.post("call/generate", run), stays_open=True)


def garbage(source: Source) -> HostileRequest:
    """What is no HTTP."""
    return HostileRequest("garbage", source.rng.randbytes(source.rng.randrange(1, 400)) + b"\r\n\r\n", stays_open=True)


EVERY = (paths, closed, hosts, methods, bodies, calls, inputs, programs, readers, pages, unfinished, unread, garbage)
KINDS: dict[str, Callable[[Source], HostileRequest]] = {kind.__name__: kind for kind in EVERY}
