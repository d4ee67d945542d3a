"""Visitors take turns: runs that nobody reads are dropped, sessions are forgotten, silent connections are cut."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import httpx
import pytest
from gradio_client import Client
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

import api.connection
import api.guard
import api.visitors
import app
from api.limits import REMEMBERED_CLIENTS, CountsByClient, client_of
from lens.bench import Bench
from tests.served import serve_application
from tests.test_app import GIVEN, texts


@pytest.fixture(scope="module")
def page(bench: Bench) -> gr.Blocks:
    return app.build(bench)


@pytest.fixture(scope="module")
def address(page: gr.Blocks) -> Iterator[str]:
    with serve_application(app.web(page)) as address:
        yield address


def join(address: str, page: gr.Blocks, session: str, **changes: object) -> int:
    """Ask for a run, and never read what it says."""
    number = next(number for number, function in page.fns.items() if function.api_name == "generate")
    given = {**GIVEN, **changes}
    body = {"data": [0, *given.values()], "fn_index": number, "session_hash": session}
    return httpx.post(f"{address}/gradio_api/queue/join", json=body, timeout=60).status_code


def test_forty_five_runs_that_nobody_reads_hold_nobody_up(address: str, page: gr.Blocks) -> None:
    with ThreadPoolExecutor(45) as crowd:
        begun = time.monotonic()
        held = [crowd.submit(join, address, page, f"silent-{number}", length=50) for number in range(45)]
        time.sleep(1)
        client = Client(address, verbose=False, httpx_kwargs={"timeout": 120})
        shown, _, _ = client.predict(**GIVEN, api_name="/generate")
        assert texts(shown)[0]
        assert time.monotonic() - begun < 40
        assert {job.result() for job in held} <= {200, 429}
    until = time.monotonic() + 30
    while page._queue.event_ids_to_events and time.monotonic() < until:
        time.sleep(0.2)
    assert not page._queue.event_ids_to_events


def test_a_session_has_few_runs_waiting(address: str, page: gr.Blocks) -> None:
    with ThreadPoolExecutor(30) as crowd:
        statuses = list(crowd.map(lambda _: join(address, page, "one", b="tiny-b", length=50), range(30)))
    assert set(statuses) == {200, 429}


def test_a_class_behind_one_router_is_served(address: str) -> None:
    def visit(number: int) -> str:
        client = Client(address, verbose=False, httpx_kwargs={"timeout": 120})
        return texts(client.predict(**{**GIVEN, "length": 4, "seed": number}, api_name="/generate")[0])[0]

    with ThreadPoolExecutor(30) as crowd:
        assert all(crowd.map(visit, range(30)))


def test_sessions_and_answers_are_forgotten(address: str, page: gr.Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.visitors, "QUIET_SECONDS", 1.0)
    monkeypatch.setattr(api.visitors, "UNREAD_SECONDS", 1.0)
    for number in range(5):
        assert join(address, page, f"gone-{number}", length=1) == 200
    holder, queue = page.state_holder, page._queue
    until = time.monotonic() + 30
    while time.monotonic() < until:
        left = [*holder.session_data, *queue.pending_messages_per_session, *queue.pending_event_ids_session]
        if not any(session.startswith("gone-") for session in left):
            break
        time.sleep(0.2)
    assert not [session for session in left if session.startswith("gone-")]
    assert holder.capacity == api.visitors.SESSIONS


def test_a_page_that_is_open_keeps_its_session(address: str, page: gr.Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.visitors, "QUIET_SECONDS", 1.0)
    number = next(number for number, function in page.fns.items() if function.api_name == "ask")
    with httpx.stream("GET", f"{address}/gradio_api/heartbeat/held", timeout=60) as pulse:
        assert pulse.status_code == 200
        body = {"data": [], "session_hash": "held", "fn_index": number}
        httpx.post(f"{address}/gradio_api/run/predict", json=body)
        time.sleep(4)
        assert "held" in page.state_holder.session_data


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """An application for tests of connections alone."""
    if scope["type"] == "http":
        await PlainTextResponse("hello" * (2_000_000 if scope["path"] == "/long" else 1))(scope, receive, send)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve_application(hello) as address:
        yield int(address.rsplit(":", 1)[1])


def received(connection: socket.socket, n_bytes: int = 1000) -> bytes:
    """What comes next; nothing if the connection was cut."""
    try:
        return connection.recv(n_bytes)
    except ConnectionError:
        return b""


ASKED = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize("sent", [b"", ASKED[:8], ASKED[:-2], ASKED + ASKED[:8]])
def test_a_connection_that_sends_no_request_is_cut(port: int, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(api.connection, "HEAD_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as silent:
        silent.sendall(sent)
        begun = time.monotonic()
        assert received(silent).startswith(b"HTTP/1.1 200" if sent.startswith(ASKED) else b"")
        while received(silent):
            pass
        assert time.monotonic() - begun < 10


def test_a_connection_that_takes_nothing_is_cut(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.connection, "READ_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
        slow.sendall(ASKED.replace(b"/ ", b"/long "))
        time.sleep(2)
        total = 0
        while part := received(slow, 1_000_000):
            total += len(part)
        assert total < 10_000_000


def test_one_client_has_not_all_connections(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.connection, "MOST_OF_CLIENT", 10)
    many = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(20)]
    time.sleep(0.5)
    answers = []
    for one in many:
        with contextlib.suppress(ConnectionError):
            one.sendall(ASKED)
        answers.append(received(one))
        one.close()
    assert [answer.startswith(b"HTTP/1.1 200") for answer in answers] == [True] * 10 + [False] * 10


def test_clients_are_counted_by_address_and_version_6_by_network() -> None:
    assert client_of({"client": ("10.0.0.1", 5)}) == client_of({"client": ("::ffff:10.0.0.1", 6)}) == "10.0.0.1"
    assert client_of({"client": ("2001:db8::1", 5)}) == client_of({"client": ("2001:db8::ffff:2", 5)})
    assert client_of({"client": ("2001:db8::1", 5)}) != client_of({"client": ("2001:db8:0:1::1", 5)})


def test_counts_fade_and_are_bounded() -> None:
    counts = CountsByClient(per_second=20)
    counts.of("a").add()
    assert 0 < counts.of("a").now() <= 1
    time.sleep(0.1)
    assert counts.of("a").now() == 0
    for number in range(REMEMBERED_CLIENTS + 100):
        counts.of(str(number))
    assert len(counts) == REMEMBERED_CLIENTS


def test_a_body_that_never_ends_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.guard, "BODY_SECONDS", 0.5)
    port = int(address.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=20) as slow:
        slow.sendall(
            b"POST /gradio_api/queue/join HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
        assert b"408" in slow.recv(1000)
