"""The routes that the page needs. Whatever else its web framework offers is closed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["page", "asset", "export", "stream", "pulse", "run", "call", "call by name", "join", "cancel", "login"]
NAME = r"(?P<endpoint>[A-Za-z0-9_-]{1,100})/?"
EVENT = r"(?P<event>[A-Za-z0-9_-]{1,100})"
BY_NAME = r"(?:v2/)?[A-Za-z0-9_-]{1,100}"
API = "/gradio_api"


@dataclass(frozen=True)
class Route:
    """A path that is open, by its pattern, for these methods."""

    kind: Kind
    methods: tuple[str, ...]
    pattern: str
    public: bool = False
    """Open before the login: what the login page itself is made of."""

    def match(self, path: str) -> re.Match[str] | None:
        return re.fullmatch(self.pattern, path)


OPEN = (
    Route("page", ("GET", "HEAD"), "/", public=True),
    Route("page", ("GET",), "/config/?"),
    Route("page", ("GET",), f"{API}/info/?"),
    Route("page", ("GET",), f"{API}/login_check/?", public=True),
    Route("page", ("GET",), f"{API}/app_id/?"),  # an open page asks for it after a lost connection
    Route("page", ("GET",), "/logout"),
    Route("asset", ("GET",), f"(?:{API})?/theme.css", public=True),
    Route("asset", ("GET",), "/(?:static|assets|svelte)/[^/].*", public=True),
    Route("asset", ("GET",), "/(?:favicon.ico|robots.txt|manifest.json)", public=True),
    Route("export", ("GET", "HEAD"), f"{API}/file=/.+"),
    Route("stream", ("GET",), f"{API}/queue/data"),
    Route("stream", ("GET",), f"{API}/call/{BY_NAME}/{EVENT}"),
    Route("pulse", ("GET",), rf"{API}/heartbeat/(?P<session>[^/]+)"),
    Route("run", ("POST",), f"{API}/(?:run|api)/{NAME}"),
    Route("call", ("POST",), f"{API}/call/{NAME}"),
    Route("call by name", ("POST",), f"{API}/call/v2/{NAME}"),
    Route("join", ("POST",), f"{API}/queue/join"),
    Route("cancel", ("POST",), f"{API}/(?:cancel|reset/?)"),
    Route("login", ("POST",), "/login/?", public=True),
)


def routes_at(path: str) -> list[Route]:
    """The open routes of a path; none if it is closed."""
    return [route for route in OPEN if route.match(path)]
