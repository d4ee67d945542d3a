"""A web application on a port of this machine, for as long as a test wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import uvicorn
from starlette.types import ASGIApp

import app


@contextmanager
def serve_application(application: ASGIApp) -> Iterator[str]:
    """Its address, such as http://127.0.0.1:40123."""
    with app.listen("127.0.0.1", 0) as mine:
        server = uvicorn.Server(app.server_settings(application))
        thread = Thread(target=server.run, kwargs={"sockets": [mine]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{mine.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=30)
