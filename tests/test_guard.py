"""Closed doors: names of the server, other sites, closed routes, the login, and hostile bodies."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gradio as gr
import httpx
import pytest

import app
from api.hosts import Hosts, is_same
from lens.bench import Bench
from tests.served import serve_application

JSON = {"content-type": "application/json"}
NEEDED = {
    "/", "/config", "/gradio_api/info", "/gradio_api/login_check", "/gradio_api/app_id", "/logout", "/theme.css",
    "/gradio_api/theme.css", "/svelte/{path:path}", "/static/{path:path}", "/assets/{path:path}", "/favicon.ico",
    "/robots.txt", "/manifest.json", "/gradio_api/file={path_or_url:path}", "/gradio_api/queue/data",
    "/gradio_api/call/{api_name}/{event_id}", "/gradio_api/call/v2/{api_name}/{event_id}",
    "/gradio_api/heartbeat/{session_hash}", "/gradio_api/run/{api_name}", "/gradio_api/api/{api_name}",
    "/gradio_api/call/{api_name}", "/gradio_api/call/v2/{api_name}", "/gradio_api/queue/join", "/gradio_api/cancel",
    "/gradio_api/reset", "/login",
}  # fmt: skip
"""What the page, a program that calls it and the login need, as Gradio spells it."""
PUBLIC = {"/", "/gradio_api/login_check", "/theme.css", "/gradio_api/theme.css", "/svelte/{path:path}", "/login",
          "/static/{path:path}", "/assets/{path:path}", "/favicon.ico", "/robots.txt", "/manifest.json"}  # fmt: skip
FILLED = {"{path:path}": "img/logo.svg", "{path_or_url:path}": "/x"}


@pytest.fixture(scope="module")
def page(bench: Bench) -> gr.Blocks:
    return app.build(bench)


@pytest.fixture(scope="module")
def web(page: gr.Blocks) -> Any:
    return app.web(page)


@pytest.fixture(scope="module")
def visitor(web: Any) -> Iterator[httpx.Client]:
    with serve_application(web) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def locked(bench: Bench) -> Iterator[httpx.Client]:
    """The same behind a login."""
    web = app.web(app.build(bench), ("anna", "sesam öffne dich"))
    with serve_application(web) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def routes(web: Any) -> list[tuple[str, str, str]]:
    """Every route of the mounted application: method, template, and a path that matches."""
    found = []

    def walk(inside: Any) -> None:
        for route in inside:
            deeper = getattr(route, "original_router", None) or getattr(route, "app", None)
            if hasattr(deeper, "routes"):  # a mounted application, or a router inside one
                walk(deeper.routes)
                continue
            path = re.sub(r"{[^}]*}", lambda part: FILLED.get(part[0], "1"), route.path)
            found.extend((method, route.path.rstrip("/") or "/", path) for method in route.methods)

    walk(web.routes)
    return found


def test_every_route_is_needed_or_closed(web: Any, visitor: httpx.Client) -> None:
    every = routes(web)
    assert {template for _, template, _ in every} >= NEEDED
    assert len(every) > 60
    for method, template, path in every:
        if template not in NEEDED:
            assert visitor.request(method, path).status_code in (404, 405), (method, path)
    for path in ("/docs", "/redoc", "/openapi.json", "/gradio_api/openapi.json", "/dev/reload", "/gradio_api/upload"):
        assert visitor.get(path).status_code == 404


def test_without_a_login_only_the_login_page_answers(web: Any, locked: httpx.Client) -> None:
    for method, template, path in routes(web):
        if template not in PUBLIC:
            status = locked.request(method, path, json={"data": []} if method == "POST" else None).status_code
            assert status in (401, 404, 405), (method, path, status)
    shown = locked.get("/").text
    assert '"auth_required":true' in shown
    assert "tiny-a" not in shown


def test_the_right_password_lets_in_and_logging_out_ends_it(locked: httpx.Client) -> None:
    right = {"username": "anna", "password": "sesam öffne dich"}
    with httpx.Client(base_url=locked.base_url) as client:
        assert client.post("/login", data=right).status_code == 200
        assert "tiny-a" in client.get("/config").text
        client.get("/logout")
        assert client.get("/config").status_code == 401


def test_wrong_passwords_are_slowed_down_and_others_still_get_in(bench: Bench) -> None:
    web = app.web(app.build(bench), ("anna", "right"))

    def attempt(address: str, password: str, source: str = "127.0.0.1") -> int:
        transport = httpx.HTTPTransport(local_address=source)
        with httpx.Client(base_url=address, transport=transport, timeout=60) as client:
            forged = {"x-forwarded-for": f"10.0.0.{len(password) % 250}", "forwarded": f"for={password}"}
            answer = client.post("/login", data={"username": "anna", "password": password}, headers=forged)
            return answer.status_code

    with serve_application(web) as address, ThreadPoolExecutor(20) as crowd:
        begun = time.monotonic()
        statuses = list(crowd.map(lambda number: attempt(address, "x" * number), range(1, 61)))
        seconds = time.monotonic() - begun
        assert seconds > 1
        assert statuses.count(400) <= 6 + seconds / 3
        assert set(statuses) == {400, 429}
        begun = time.monotonic()
        assert attempt(address, "right", "127.0.0.2") == 200
        assert time.monotonic() - begun < 2
        while attempt(address, "right") != 200:  # soon from the address that guessed, too
            assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil.example", "127.0.0.1:x",
             "", "10.0.0.1", "[::1].evil", "a b", "127.0.0.1, evil.example", "0.0.0.0", "2130706433"]
)  # fmt: skip
def test_a_request_for_another_host_is_refused(visitor: httpx.Client, host: str) -> None:
    own = str(visitor.base_url.netloc.decode())
    for headers in ({"host": host}, {"host": host, "origin": f"http://{host}"}):
        assert visitor.get("/", headers=headers).status_code == 400
    if host:
        assert visitor.get("/config", headers={"host": own, "x-forwarded-host": host}).status_code == 400


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]", "[0:0:0:0:0:0:0:1]", "localhost."])
def test_the_loopback_names_are_this_server(visitor: httpx.Client, name: str) -> None:
    assert visitor.get("/", headers={"host": f"{name}:{visitor.base_url.port}"}).status_code == 200


def test_the_names_of_a_server_follow_from_what_it_listens_on() -> None:
    everywhere = Hosts.of("0.0.0.0", ["class.example"])
    for name in ("192.168.1.7:7860", "[fe80::1]:7860", "class.example", "localhost:7860"):
        everywhere.check_host(name)
    Hosts.of("192.168.1.7").check_host("192.168.1.7:7860")
    for hosts, name in ((everywhere, "evil.example"), (Hosts.of("192.168.1.7"), "localhost"), (Hosts(), "10.0.0.1")):
        with pytest.raises(Exception, match="does not go by that name"):
            hosts.check_host(name)


FOREIGN = ["http://evil.example", "null", "http://localhost:1", "https://127.0.0.1", "http://127.0.0.1.evil.example",
           "file://", "", "chrome-extension://abc", "http://[", "http://127.0.0.1:99999"]  # fmt: skip


@pytest.mark.parametrize("origin", FOREIGN)
def test_another_sites_page_may_send_nothing(visitor: httpx.Client, origin: str) -> None:
    headers = {**JSON, "origin": origin}
    body = json.dumps({"data": ["iti"], "fn_index": 8})
    for method, path in (("POST", "/gradio_api/run/predict"), ("POST", "/gradio_api/queue/join"), ("POST", "/login"),
                         ("OPTIONS", "/gradio_api/queue/join"), ("GET", "/logout"), ("GET", "/config"),
                         ("GET", "/gradio_api/queue/data"), ("GET", "/gradio_api/heartbeat/x")):  # fmt: skip
        answer = visitor.request(method, path, headers=headers, content=body if method == "POST" else None)
        assert answer.status_code in (403, 404, 405), (method, path, answer.status_code)
        assert "access-control-allow-origin" not in answer.headers
    assert visitor.post("/gradio_api/run/predict", headers=headers, content=body).status_code == 403
    shown = visitor.get("/", headers={"origin": origin})
    assert shown.status_code == 200
    assert "access-control-allow-origin" not in shown.headers


def test_what_a_browser_says_of_the_sender_counts_too(visitor: httpx.Client) -> None:
    own = {"origin": str(visitor.base_url).rstrip("/")}
    numbers = {each["api_name"]: each["id"] for each in visitor.get("/config").json()["dependencies"]}
    body = {"data": ["iti"], "fn_index": numbers["on_method"]}
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        headers = {**own, "sec-fetch-site": site}
        assert visitor.post("/gradio_api/run/predict", json=body, headers=headers).status_code == status
    assert visitor.get("/logout", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert visitor.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200  # a link from elsewhere


def test_an_origin_is_a_name_and_a_port() -> None:
    assert is_same("http://127.0.0.1:7860", "127.0.0.1:7860")
    assert is_same("https://Class.example", "class.example")  # a proxy ends the encryption
    assert not is_same("http://127.0.0.1:7860", "127.0.0.1:7861")
    assert not is_same("http://class.example", "class.example:7860")


def test_every_answer_says_what_a_browser_may_do(visitor: httpx.Client) -> None:
    for path in ("/", "/config", "/nothing", "/theme.css", "/gradio_api/file=/etc/passwd"):
        headers = visitor.get(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
