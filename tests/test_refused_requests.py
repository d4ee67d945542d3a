"""Requests that no page of ours sends are refused with a sentence, never with a fault of the server's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import httpx
import pytest
from starlette.exceptions import HTTPException

import app
from api.calls import Endpoint, Endpoints
from lens.bench import Bench
from tests.served import serve_application


@pytest.fixture(scope="module")
def page(bench: Bench) -> gr.Blocks:
    return app.build(bench)


@pytest.fixture(scope="module")
def visitor(page: gr.Blocks) -> Iterator[httpx.Client]:
    with serve_application(app.web(page)) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


BROKEN = [b"", b"{", b"null", b"[]", b"\xff", b'{"data": ["\\ud800"]}', b'{"data":' * 5000, b"[" * 100_000,
          b"x" * 300_000, b'{"data": [' + b"9" * 5000 + b"]}", b'{"data": {}}', b'{"data": [], "session_hash": [1]}',
          b'{"data": ["iti"], "fn_index": NaN}', b'{"data": ["iti"], "fn_index": 1e400}',
          b'{"data": ["iti"], "fn_index": 9999}', b'{"data": ["iti"], "fn_index": true}',
          b'{"data": ["iti"], "fn_index": 8, "batched": true}', b'{"data": ["iti"], "fn_index": 8, "trigger_id": "x"}',
          b'{"data": ["iti"], "fn_index": 8, "event_id": {}}']  # fmt: skip


@pytest.mark.parametrize("body", BROKEN, ids=lambda body: repr(body[:30]))
@pytest.mark.parametrize("road", ["run/predict", "queue/join", "call/generate", "call/v2/generate", "cancel"])
def test_a_broken_body_is_refused_with_a_sentence(visitor: httpx.Client, road: str, body: bytes) -> None:
    answer = visitor.post(f"/gradio_api/{road}", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["detail"].endswith((".", "them."))


def test_calls_by_name_say_what_is_missing_or_unknown(visitor: httpx.Client) -> None:
    answer = visitor.post("/gradio_api/call/v2/generate", json={"no": 1})
    assert answer.status_code == 400
    assert "does not know no" in answer.json()["detail"]
    endpoints = Endpoints([Endpoint(0, "needy", True, 1, 1, {"prompt": False})])
    with pytest.raises(HTTPException, match="also needs prompt"):
        endpoints.checked_call_by_name("needy", {})
    assert visitor.post("/gradio_api/call/v2/nothing", json={}).status_code == 404
    assert visitor.post("/gradio_api/call/ask", json={"data": []}).status_code == 404  # the page's own


def test_no_component_of_gradio_reads_an_input_before_we_do(page: gr.Blocks) -> None:
    read = [each.api_name for each in page.fns.values() if each.fn and each.inputs and each.preprocess]
    assert not read


def test_a_function_that_fails_on_its_inputs_is_no_fault_of_the_server(page: gr.Blocks, visitor: httpx.Client) -> None:
    numbers = {function.api_name: number for number, function in page.fns.items()}
    for name, wrong in (("on_method", "nonsense"), ("on_method", [1]), ("example", "x"), ("example", 99)):
        answer = visitor.post("/gradio_api/run/predict", json={"data": [wrong], "fn_index": numbers[name]})
        assert answer.status_code == 422
        assert answer.json()["error"]


@pytest.mark.parametrize(
    "path", ["/?page=x", "/?deep_link=../x", "/config?deep_link=a&page=zz", "/assets/", "/assets/%00",
             "/static/" + "a" * 400,              "/" + "a/" * 900, "/%ff", "/\\x", "/gradio_api/queue/data",
             "/gradio_api/queue/data?session_hash=%00",
             "/gradio_api/queue/data?session_hash=unknown", "/gradio_api/call/generate/unknown",
             "/gradio_api/heartbeat/a%20b", "/gradio_api/file=", "/?x=" + "a" * 3000, "/manifest.json", "/pwa_icon/5"]
)  # fmt: skip
def test_no_address_is_a_fault_of_the_server(visitor: httpx.Client, path: str) -> None:
    assert visitor.get(path, headers={"range": "bytes=1-2-3", "cookie": b"\x80=;"}).status_code < 500


def test_no_answer_says_where_the_server_keeps_its_files(bench: Bench, visitor: httpx.Client) -> None:
    numbers = {each["api_name"]: each["id"] for each in visitor.get("/config").json()["dependencies"]}
    bodies = [visitor.get(path).text for path in ("/", "/config", "/gradio_api/info", "/nothing", "/theme.css")]
    for name in ("show", "refresh", "generate", "fit_now"):
        data = [None, True, "bare", "", "x"] + [None] * 12 if name == "generate" else ["bare", "broken<b>", "builtin"]
        data = data if name in ("generate", "show") else data[:2] if name == "fit_now" else []
        body = {"data": data, "fn_index": numbers[name], "session_hash": f"where-{name}"}
        if name == "refresh":
            bodies.append(visitor.post("/gradio_api/run/predict", json=body).text)
        else:
            assert visitor.post("/gradio_api/queue/join", json=body).status_code == 200
            bodies.append(visitor.get(f"/gradio_api/queue/data?session_hash=where-{name}").text)
    for body in bodies:
        assert str(bench.folder.parent) not in body
        assert str(Path(app.__file__).parent) not in body
        assert "Traceback" not in body
