"""The page: `python app.py` serves the checkpoints of a folder to a browser, on this machine alone unless told."""

from __future__ import annotations

import lens.terminal  # first: it answers Ctrl-C while all else is imported
from lens.gradio_settings import REMOVED  # before gradio

# isort: split
import contextlib
import errno
import html
import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import tyro
import uvicorn
from fastapi import FastAPI
from starlette.routing import Mount
from starlette.types import ASGIApp

import evaluation.panel
import probes.panel
import probes.tokens_panel
import steering.panel
from api.calls import Endpoint, Endpoints
from api.connection import BoundedConnection
from api.guard import Guard, Rules
from api.hosts import Hosts, is_address, is_loopback
from api.logins import Login
from api.visitors import SESSIONS, Visitors
from evaluation.builtin_scorer import BuiltinScorer
from evaluation.pictures import variables
from evaluation.shelf import Shelf
from lens.bench import Bench
from lens.checkpoint import beside_program, check_catalogue
from lens.files import downloads
from lens.opening import check_machine
from lens.panel import theme
from lens.shown_paths import without_folders
from steering.page import Scoring

STYLES = [Path(__file__).parent / package / "panel.css" for package in ("lens", "probes", "steering", "evaluation")]
TAGLINE = "See where a language model keeps its toxicity, and turn it up or down."
SHIPPED = Shelf()
"""The results that come with the program."""
LOOPBACK_ALONE = Hosts()
NAME = re.compile(r"[A-Za-z0-9._-]+")
"""A host by its name, or by an address of version 4."""
WAITING = 64
"""Visitors in the queue at most; the next one is told that it is full."""


@dataclass(frozen=True)
class Settings:
    """Serve the Hormesis page."""

    checkpoints: Path = Path("checkpoints")
    """Folder with the checkpoints to show."""
    results: Path = Path("results")
    """Folder with results of your own: NAME/ in it is what `python -m evaluation compare ... --out` wrote."""
    host: str = "127.0.0.1"
    """Address to listen on. The default is this machine alone; 0.0.0.0 lets the whole network in, and needs --auth."""
    hostname: tuple[str, ...] = ()
    """Names that this server also goes by, such as the one of a proxy before it. Requests for another name are refused;
    with --host 0.0.0.0 the machine's own name and its addresses are known."""
    i_know: bool = False
    """Let others in without --auth."""
    port: int = 7860
    auth: str | None = None
    """Ask visitors for this name and password, written user:password."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: str | None = None
    """float32, bfloat16 or float16; by default float32 for small models, else bfloat16."""
    threads: int | None = None
    """CPU threads for torch."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"A port is a number from 1 to 65535; got {self.port}.")
        if not (NAME.fullmatch(self.host) or is_address(self.host)):
            raise ValueError(f"--host is an address of this machine, like 127.0.0.1 or ::1; got {self.host!r}.")
        for name in self.hostname:
            if not NAME.fullmatch(name):
                raise ValueError(f"--hostname is a name without http:// and without a port; got {name!r}.")
        if not is_loopback(self.host) and self.auth is None and not self.i_know:
            raise ValueError(
                f"--host {self.host} lets others use this machine. Ask who they are with --auth user:password, "
                "or add --i-know."
            )
        if self.auth is not None and not all(self.auth.partition(":")):
            raise ValueError("--auth is a name and a password with a colon between them, like --auth anna:secret.")

    @property
    def url(self) -> str:
        """Where the page is, for a person to open."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def login(self) -> tuple[str, str] | None:
        if self.auth is None:
            return None
        name, _, password = self.auth.partition(":")
        return name, password


class PortTaken(OSError):
    """Somebody else listens there."""


def build(bench: Bench, scoring: Scoring | None = None, shelf: Shelf = SHIPPED) -> gr.Blocks:
    """The four tabs, on whatever the folder of checkpoints and the shelf of results hold.

    With `scoring`, a score stands beside every text of the Steer tab.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(downloads())  # Gradio hands out whatever is in there: nothing but our exports
    with gr.Blocks(title="Hormesis", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(_masthead(), js_on_load=THEME_SWITCH, apply_default_css=False)
        with gr.Tabs():
            with gr.Tab("Steer", id="steer") as tab:
                steer = steering.panel.build(bench, page, tab, scoring)
            with gr.Tab("Probes", id="probes") as tab:
                probe = probes.panel.build(bench, tab)
            with gr.Tab("Tokens", id="tokens") as tab:
                token = probes.tokens_panel.build(bench, tab)
            with gr.Tab("Compare", id="compare") as tab:
                evaluation.panel.build(shelf, tab)
        status = gr.HTML(_status(bench), apply_default_css=False)
        menus = (steer, probe, token)

        def refresh() -> list[Any]:
            names = bench.catalogue.names
            return [*(update for menu in menus for update in menu.update(names)), _status(bench)]

        outputs = [*(menu for pair in menus for menu in (pair.a, pair.b)), status]
        page.load(refresh, None, outputs, show_progress="hidden", queue=False, api_visibility="private")
    return page


def built_in_scoring() -> Scoring:
    """The scorer that ships, for the Steer tab; nothing of what it reads is kept."""
    scorer = BuiltinScorer.open()
    return Scoring(
        scorer,
        f"Toxicity, from 0 to 1, is scored by {scorer.name} {scorer.version}, a small model that imitates Perspective. "
        "It reads the words behind the prompt, and words alone say little about what somebody means.",
    )


def _masthead() -> str:
    return (
        f'<header class="masthead"><h1>Hormesis</h1><p>{html.escape(TAGLINE)}</p>'
        '<button type="button" data-theme-switch><span>Light</span> or <span>dark</span></button></header>'
    )


THEME_SWITCH = (Path(__file__).parent / "lens" / "theme.js").read_text()
"""Light or dark, as it was left."""


def _status(bench: Bench) -> str:
    """How many checkpoints there are; those that cannot be opened, each with its reason."""
    catalogue = bench.catalogue
    whole, broken = len(catalogue), catalogue.broken
    here = f"{whole} checkpoint{'' if whole == 1 else 's'} in {html.escape(str(bench.shown))}/"
    if not broken:
        made = " Train some (python -m training run), or copy a Hugging Face OLMo folder there; then reload this page."
        return f'<div class="status" role="status">{here}.{"" if whole else made}</div>'
    said = {name: without_folders(why, bench.folder) for name, why in broken.items()}
    reasons = "".join(f"<li><b>{html.escape(name)}</b>: {html.escape(why)}</li>" for name, why in said.items())
    return (
        f'<div class="status" role="status"><details open><summary>{here}; {len(broken)} unavailable</summary>'
        f"<ul>{reasons}</ul></details></div>"
    )


def web(page: gr.Blocks, login: tuple[str, str] | None = None, hosts: Hosts = LOOPBACK_ALONE) -> FastAPI:
    """The page as a web application: nothing recorded, nothing shared, no files but its own.

    `Blocks.launch` would do, but it asks its own address for an answer within three seconds and gives up without one,
    which a busy machine takes for a start.
    """
    page.has_launched = True  # `launch` sets it, mounting does not; until then Gradio checks no path of a file
    page.state_session_capacity = SESSIONS
    page.queue(max_size=WAITING, api_open=False)
    page._queue.ANAYLTICS_CACHE_FREQUENCY = sys.maxsize  # a summary of all runs behind each run, which nobody sees
    visitors = Visitors(page)
    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=visitors.lifespan)
    door = Login(*login) if login else None
    gr.mount_gradio_app(
        application,
        page,
        path="/",
        auth=door.check if door else None,
        theme=theme(),
        css=variables(),
        css_paths=STYLES,
        run_history=False,
        allowed_paths=[],
        max_file_size="1mb",
        footer_links=["api"],
        show_error=False,
        enable_monitoring=False,
        ssr_mode=False,
    )
    if door:
        door.is_signed_in = partial(has_token, mounted(application))
    rules = Rules(Endpoints(endpoints(page)), visitors, downloads(), hosts, door)
    application.add_middleware(Guard, rules=rules)
    return application


def mounted(application: FastAPI) -> Any:
    """The application of Gradio's inside ours."""
    return next(route.app for route in application.routes if isinstance(route, Mount))


def has_token(gradio_app: Any, cookies: Mapping[str, str]) -> bool:
    """Whether a visitor's cookies hold a token that Gradio gave out at the login."""
    names = (f"access-token-{gradio_app.cookie_id}", f"access-token-unsecure-{gradio_app.cookie_id}")
    return any(cookies.get(name) in gradio_app.tokens for name in names)


def endpoints(page: gr.Blocks) -> list[Endpoint]:
    """What the guard has to know of the page's functions."""
    public = page.get_api_info()["named_endpoints"]

    def parameters(name: str) -> dict[str, bool] | None:
        if name not in public:
            return None
        return {given["parameter_name"]: given["parameter_has_default"] for given in public[name]["parameters"]}

    return [
        Endpoint(
            number=number,
            name=str(function.api_name),
            queued=function.queue,
            n_inputs=len(function.inputs),
            n_given=sum(not block.skip_api for block in function.inputs),
            parameters=parameters(f"/{function.api_name}"),
        )
        for number, function in page.fns.items()
    ]


def listen(host: str, port: int) -> socket.socket:
    """The socket to serve on, taken before anything slow begins; if somebody else has it, another is offered."""
    try:
        return _bound(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise OSError(f"Cannot listen on {host}, port {port}: {error.strerror}. Give --host and --port.") from error
    free = next((other for other in range(port + 1, min(port + 200, 65536)) if _is_free(host, other)), None)
    offer = f"Port {free} is free: python app.py --port {free}" if free else "Choose another with --port."
    raise PortTaken(f"Port {port} is taken. {offer}")


def _is_free(host: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        _bound(host, port).close()
        return True
    return False


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    mine = socket.socket(family)
    try:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mine.bind((host, port))
        mine.listen()
    except OSError:
        mine.close()
        raise
    return mine


def serve(settings: Settings) -> None:
    """Serve until stopped."""
    check_machine(settings.device, settings.dtype, settings.threads)
    check_catalogue(folder := beside_program(settings.checkpoints))
    results = settings.results.absolute()
    if settings.results != Settings.results and not results.is_dir():
        raise ValueError(f"{settings.results} is no folder. --results holds what python -m evaluation compare wrote.")
    if folder != settings.checkpoints:  # started elsewhere: the page still speaks of checkpoints/, and of no whole path
        os.chdir(folder.parent)
    if REMOVED:
        print(f"Not used: {', '.join(REMOVED)}. The page is set up by options alone: python app.py --help", flush=True)
    with listen(settings.host, settings.port) as mine:
        bench = Bench(settings.checkpoints, settings.device, settings.dtype, settings.threads)
        try:
            scoring = built_in_scoring()
        except (OSError, ValueError) as error:
            scoring = None
            print(f"No scores beside the texts. {error}", flush=True)
        hosts = Hosts.of(settings.host, settings.hostname)
        application = web(build(bench, scoring, Shelf(results)), settings.login, hosts)
        print(f"Hormesis is at {settings.url} (Ctrl-C stops it).", flush=True)
        uvicorn.Server(server_settings(application)).run(sockets=[mine])
    raise KeyboardInterrupt  # only a signal ends the server


def server_settings(application: ASGIApp) -> uvicorn.Config:
    """How the application is served: as the visitor's address counts the connection's own, not what a header says."""
    return uvicorn.Config(
        application,
        log_level="critical",  # uvicorn would print a traceback for each page that is open when the server stops
        timeout_graceful_shutdown=0,
        http=BoundedConnection,
        h11_max_incomplete_event_size=16_384,
        ws="none",
        proxy_headers=False,
        server_header=False,
    )


if __name__ == "__main__":
    with lens.terminal.command_line("The page is closed; the same command opens it again."):
        serve(tyro.cli(Settings))
