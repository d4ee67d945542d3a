"""No visitor reads a file of the server's: one is planted, and asked for by every way in."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest

import app
from lens.bench import Bench
from lens.files import downloads, to_download
from tests.served import serve_application

SECRET = "planted-5d41402abc4b2a76"
FILE = {"_type": "gradio.FileData"}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outside") / "secret.txt"
    path.write_text(SECRET)
    return path


@pytest.fixture(scope="module")
def page(bench: Bench) -> gr.Blocks:
    return app.build(bench)


@pytest.fixture(scope="module")
def web(page: gr.Blocks) -> Any:
    return app.web(page)


@pytest.fixture(scope="module")
def visitor(web: Any) -> Iterator[httpx.Client]:
    with serve_application(web) as address, httpx.Client(base_url=address, timeout=120) as client:
        yield client


def payloads(path: Path) -> list[Any]:
    """Ways to write "that file" which Gradio or a component of it reads as one."""
    plain = {"path": str(path), "meta": FILE}
    return [
        plain,
        [plain],
        {"value": plain},
        {"deep": [{"er": [plain]}]},
        {"path": str(path)},
        {**plain, "is_stream": True},
        {**plain, "url": path.as_uri(), "orig_name": "x.txt"},
        {"path": f"/gradio_api/file={path}", "meta": FILE},
        {"path": "https://example.org/x", "url": str(path), "meta": FILE},
        {"image": plain, "text": "x", "files": [plain]},
    ]


def cached() -> set[Path]:
    """Files that this server may hand out, and copies of the planted one where Gradio usually puts them."""
    usual = Path(tempfile.gettempdir()) / "gradio"
    return {path for path in downloads().rglob("*") if path.is_file()} | set(usual.rglob("secret.txt"))


def in_every_position(page: gr.Blocks, file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every function of the page with the file in every position of its inputs, by each road that leads there."""
    for number, function in page.fns.items():
        many = len(function.inputs)
        for place in range(many):
            data = [file if place == other else None for other in range(many)]
            yield "queue/join" if function.queue else "run/predict", body_of(number, data=data)
            if function.api_visibility == "public":
                for road in ("run", "api", "call"):
                    yield f"{road}/{function.api_name}", {"data": data}


def in_every_field(page: gr.Blocks, file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a body, and every road that might read one."""
    for number, function in page.fns.items():
        data = [None] * len(function.inputs)
        yield "run/predict", body_of(number, data=[*data, file])
        yield "queue/join", body_of(number, data=[*data, file])
        yield f"call/v2/{function.api_name}", {"a": file, "prompt": file}
    quick, slow = numbered(page, "on_method"), numbered(page, "generate")
    for field in ("event_data", "trigger_id", "session_hash", "event_id", "fn_index", "data", "state", "meta", "path"):
        yield "run/predict", {**body_of(quick, data=["iti"]), field: file}
        yield "queue/join", {**body_of(slow, data=[None] * len(page.fns[slow].inputs)), field: file}
        yield "call/generate", {"data": [None] * 16, field: file}
    for road in ("component_server", "cancel", "reset", "stream/x", "upload", "process_recording", "vibe-edit"):
        yield road, {"data": file, "component_id": 1, "fn_name": "x", "session_hash": "x", "event_id": file}


def numbered(page: gr.Blocks, name: str) -> int:
    """The fn_index of a function."""
    return next(number for number, function in page.fns.items() if function.api_name == name)


def body_of(number: int, data: list[Any]) -> dict[str, Any]:
    return {"fn_index": number, "session_hash": "planted", "data": data}


def test_a_planted_file_is_refused_by_every_function_in_every_position(
    page: gr.Blocks, visitor: httpx.Client, planted: Path
) -> None:
    before, (file, *others) = cached(), payloads(planted)
    tries = [*in_every_position(page, file), *in_every_field(page, file)]
    for other in others:
        tries += [
            ("run/predict", body_of(numbered(page, "on_method"), data=[other])),
            ("call/generate", {"data": [other] * 16}),
        ]
    assert len(tries) > 300
    for road, body in tries:
        answer = visitor.post(f"/gradio_api/{road}", json=body)
        assert 400 <= answer.status_code < 500, (road, body, answer.status_code)
        assert SECRET not in answer.text
    assert cached() == before


def test_a_planted_file_is_no_upload_either(visitor: httpx.Client, planted: Path) -> None:
    before = cached()
    for road in ("upload", "upload?upload_id=x", "component_server", "call/generate", "queue/join", "run/predict"):
        answer = visitor.post(
            f"/gradio_api/{road}",
            files={"files": planted.read_bytes()},
            data={"component_id": "1", "session_hash": "x", "fn_name": "x"},
        )
        assert 400 <= answer.status_code < 500, road
    assert cached() == before


def addresses(path: Path) -> Iterator[str]:
    """Paths that lead to the file, in spellings that a careless server takes."""
    inside = downloads()
    yield from (f"file={path}", f"file/{path}", f"file//{path}", f"file={path.as_uri()}", f"file=.{path}")
    yield from (f"proxy={path.as_uri()}", f"proxy=http://127.0.0.1{path}", f"proxy={path}")
    yield from (f"file={inside}/../..{path}", f"file={inside}/%2e%2e/%2e%2e{path}", f"file={inside}%2F..%2F..{path}")
    yield from (f"file={path}%00.png", f"file=%2F{path}", f"stream/{path}", f"stream/x/y/1/playlist-file?f={path}")
    yield from (f"custom_component/{path}/client/x/y", "file=http://127.0.0.1:1/x", f"file={inside}", "file=/")


def test_a_planted_file_is_served_by_no_address(visitor: httpx.Client, planted: Path) -> None:
    roots = ("/gradio_api/", "/", "/static/", "/assets/", "/svelte/", "/static/../", "/assets/%2e%2e/%2e%2e/")
    link = downloads() / "link.txt"
    link.symlink_to(planted)
    try:
        tries = [root + address for root in roots for address in [*addresses(planted), str(planted), f"file={link}"]]
        for tried in tries:
            answer = visitor.get(tried)
            assert 400 <= answer.status_code < 500, tried
            assert SECRET not in answer.text
    finally:
        link.unlink()


def test_an_export_is_handed_out(visitor: httpx.Client) -> None:
    path = to_download("map.csv", b"layer,head\n")
    answer = visitor.get(f"/gradio_api/file={path}")
    assert answer.content == b"layer,head\n"
    assert answer.headers["content-disposition"].startswith("attachment")


def test_the_maps_of_the_page_are_handed_out_under_a_name_that_says_nothing(
    page: gr.Blocks, visitor: httpx.Client
) -> None:
    data = ["tiny-a", "", "builtin", "tiny-a"]
    body = {"data": data, "fn_index": numbered(page, "export"), "session_hash": "maps"}
    assert visitor.post("/gradio_api/queue/join", json=body).status_code == 200
    said = visitor.get("/gradio_api/queue/data?session_hash=maps").text
    found = set(re.findall(r'"url":"[^"]*(/gradio_api/file=/exports/[^"]+)"', said))
    assert {address.rsplit(".", 1)[1] for address in found} >= {"png", "svg", "csv"}
    assert str(downloads()) not in said
    for address in found:
        answer = visitor.get(address)
        assert answer.status_code == 200
        assert len(answer.content) > 100


def test_gradio_alone_refuses_the_planted_file_too(page: gr.Blocks, web: Any, planted: Path) -> None:
    """The second lock: without the guard, Gradio's own check of paths still holds."""
    gradio_app = app.mounted(web)
    assert page.has_launched
    before = cached()
    with (
        serve_application(web),  # starts Gradio's queue
        serve_application(gradio_app) as address,
        httpx.Client(base_url=address, timeout=120) as client,
    ):
        for road, body in in_every_position(page, {"path": str(planted), "meta": FILE}):
            if road in ("run/predict", "queue/join"):
                assert SECRET not in client.post(f"/gradio_api/{road}", json=body).text
        assert client.get(f"/gradio_api/file={planted}").status_code == 403
        deadline = time.monotonic() + 300
        while len(page._queue) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert not len(page._queue)
    assert cached() <= before  # a server that stops removes its exports
