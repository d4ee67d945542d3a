"""`python app.py` from its first line to its last: what it refuses, where it may be started, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
from gradio_client import Client

import app
import lens.gradio_settings
from lens.bench import Bench
from lens.checkpoint import NoCatalogue, beside_program, check_catalogue, find

ROOT = Path(__file__).parent.parent
WITHOUT_GRADIO = {name: value for name, value in os.environ.items() if not name.startswith("GRADIO_")}
GRADIO = {"GRADIO_ROOT_PATH": "/elsewhere", "GRADIO_MCP_SERVER": "true", "GRADIO_ALLOWED_PATHS": "/",
          "GRADIO_SHARE": "true", "GRADIO_NUM_PORTS": "many", "GRADIO_SSR_MODE": "true"}  # fmt: skip
"""Settings that open a door, move the page, or end gradio's import with a traceback."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def served(*words: object, **options: object) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A running page, its address, and what it printed on the way."""
    port = free_port()
    command = [sys.executable, "-u", str(ROOT / "app.py"), "--port", str(port), "--device", "cpu", "--threads", "1"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in a shell's background ignore Ctrl-C
    with subprocess.Popen(
        [*command, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard,
        **options,  # type: ignore[call-overload]
    ) as process:  # fmt: skip
        try:
            said = ""
            while "Hormesis is at" not in said:
                said += process.stdout.readline() or pytest.fail(process.stderr.read())
            yield process, f"http://127.0.0.1:{port}/", said
        finally:
            process.kill()


def test_it_serves_from_any_folder_takes_no_settings_of_gradios_and_ends_while_it_writes(tmp_path: Path) -> None:
    with served(cwd=tmp_path, env={**WITHOUT_GRADIO, **GRADIO}) as (process, address, said):
        assert said.startswith(f"Not used: {', '.join(sorted(GRADIO))}. The page is set up by options alone")
        config = httpx.get(f"{address}config").json()
        assert config["root"] == address.rstrip("/")
        assert not config.get("mcp_server")
        page = httpx.get(address).text
        assert " in checkpoints/." in page
        assert str(ROOT) not in page
        client = Client(address, verbose=False)
        given = {"a": beside("demo-10"), "prompt": "The people", "length": 200, "strength": 8}
        thread = threading.Thread(target=partial(run, client, given), daemon=True)
        thread.start()
        time.sleep(1)
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "Stopped. The page is closed; the same command opens it again.\n"
        assert process.wait() == 130
        assert time.monotonic() - pressed < 20, "a second or two where the machine is idle"


def beside(name: str) -> str:
    """A checkpoint that ships."""
    return find(name, beside_program(Path("checkpoints"))).name


def run(client: Client, given: dict[str, object]) -> None:
    with suppress(Exception):  # the server goes away meanwhile
        client.predict(**given, api_name="/generate")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--checkpoints", "nowhere"], "nowhere does not exist. Give the folder that your checkpoints lie in, or make"),
        (["--results", "nowhere"], "nowhere is no folder. --results holds what python -m evaluation compare wrote."),
        (["--device", "cuda:77"], "There is no device 'cuda:77' for torch here."),
        (["--threads", "0"], "threads is a number of CPU threads from 1 up to 1024; got 0."),
        (["--dtype", "int8"], "'int8' is no dtype of ours."),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_at_start(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "listen", None)
    settings = app.tyro.cli(app.Settings, args=words)
    with pytest.raises((ValueError, LookupError)) as refused:
        app.serve(settings)
    assert str(refused.value).startswith(sentence)


def test_a_folder_of_checkpoints_is_told_from_everything_else(tiny_folder: Path, tmp_path: Path) -> None:
    check_catalogue(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NoCatalogue, match="file is a file"):
        check_catalogue(tmp_path / "file")
    with pytest.raises(
        NoCatalogue, match=f"is a checkpoint itself. Give the folder that it lies in: {tiny_folder.parent}$"
    ):
        check_catalogue(tiny_folder)


def test_an_empty_folder_is_served_with_what_to_do(tmp_path: Path) -> None:
    status = app._status(Bench(tmp_path))
    assert "0 checkpoints in" in status
    assert "python -m training run" in status


def test_the_default_folder_is_the_one_here_else_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    default = Path("checkpoints")
    assert beside_program(default) == ROOT / "checkpoints"
    assert find("demo-10").folder == find("checkpoints/demo-10").folder == ROOT / "checkpoints" / "demo-10"
    assert beside_program(Path("others")) == Path("others")
    (tmp_path / "checkpoints").mkdir()
    assert beside_program(default) == default


def test_no_setting_of_gradios_is_left_in_the_environment() -> None:
    assert {name for name in os.environ if name.startswith("GRADIO_")} <= {
        "GRADIO_ANALYTICS_ENABLED",
        "GRADIO_TEMP_DIR",
    }
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert isinstance(lens.gradio_settings.REMOVED, list)
