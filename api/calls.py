"""Calls of the page's functions, checked before Gradio reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A browser session, by the name that the page's own script gives it."""
KNOWN = {
    "run": {"data", "session_hash", "fn_index", "trigger_id", "event_data", "event_id", "simple_format", "batched"},
    "call": {"data", "session_hash", "event_data"},
    "cancel": {"session_hash", "fn_index", "event_id"},
}
"""The fields that a body may have. Others are dropped: Gradio would drop or misread them."""


@dataclass(frozen=True)
class Endpoint:
    """One function of the page that the network may call."""

    number: int
    name: str
    queued: bool
    n_inputs: int
    n_given: int
    """Inputs without the page's own state."""
    parameters: Mapping[str, bool] | None
    """Each input that a program gives by name, and whether there is a default; None for the page's own functions."""


class Endpoints:
    """The functions of the page, by number and by name."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._by_number = {endpoint.number: endpoint for endpoint in endpoints}
        public = [endpoint for endpoint in self._by_number.values() if endpoint.parameters is not None]
        self._by_name = {endpoint.name: endpoint for endpoint in public}

    def checked_run(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """A call that is answered at once; those that need the device wait in the queue instead."""
        body = _known("run", body)
        endpoint = self._numbered(body) if body.get("fn_index") is not None else self._named(name)
        if endpoint.queued:
            raise HTTPException(404, f"This function waits in the queue: call {endpoint.name} or join the queue.")
        _check_data(body, {endpoint.n_inputs})
        return body

    def checked_join(self, body: dict[str, Any]) -> dict[str, Any]:
        """A call that waits in the queue, as the page makes it."""
        body = _known("run", body)
        if body.get("session_hash") is None:
            raise HTTPException(400, "The body should name its session_hash.")
        _check_data(body, {self._numbered(body).n_inputs})
        return body

    def checked_call(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """A call that waits in the queue, as a program makes it."""
        body = _known("call", body)
        endpoint = self._named(name)
        _check_data(body, {endpoint.n_inputs, endpoint.n_given})
        return body

    def checked_call_by_name(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """The same with its inputs by name."""
        parameters = self._named(name).parameters or {}
        unknown = sorted(set(body) - set(parameters))
        missing = [parameter for parameter, has_default in parameters.items() if not (has_default or parameter in body)]
        if unknown or missing:
            wrong = f"does not know {_listed(unknown)}" if unknown else f"also needs {_listed(missing)}"
            raise HTTPException(400, f"{name} {wrong}. Its inputs are {_listed(list(parameters))}.")
        return body

    def checked_cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        """A wish to end an event."""
        body = _known("cancel", body)
        if not all(isinstance(body.get(key), str) for key in ("session_hash", "event_id")):
            raise HTTPException(400, "The body should name its session_hash and its event_id.")
        self._numbered(body)
        return body

    def _named(self, name: str) -> Endpoint:
        if name not in self._by_name:
            raise HTTPException(404, "There is no function of this name. /gradio_api/info lists them.")
        return self._by_name[name]

    def _numbered(self, body: Mapping[str, Any]) -> Endpoint:
        number = body.get("fn_index")
        if not isinstance(number, int) or isinstance(number, bool) or number not in self._by_number:
            raise HTTPException(404, "There is no function of this fn_index. /gradio_api/info lists them.")
        return self._by_number[number]


def check_session(session: object) -> str:
    """The name of a session, which is also a key of ours and of Gradio's."""
    if not isinstance(session, str) or not SESSION.fullmatch(session):
        raise HTTPException(400, "A session_hash is 1 to 64 letters, digits, dashes and underscores.")
    return session


def _known(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """The fields that such a body may have, each of its type."""
    body = {key: value for key, value in body.items() if key in KNOWN[kind] and value is not None}
    if "session_hash" in body:
        check_session(body["session_hash"])
    for key in ("fn_index", "trigger_id"):
        if not isinstance(body.get(key, 0), int) or isinstance(body.get(key), bool) or abs(body.get(key, 0)) > 2**31:
            raise HTTPException(400, f"{key} should be a whole number.")
    if not isinstance(body.get("event_id", ""), str) or not isinstance(body.get("simple_format", True), bool):
        raise HTTPException(400, "event_id should be a text and simple_format true or false.")
    if body.pop("batched", False) is not False:
        raise HTTPException(400, "No function of this page takes batches.")
    return body


def _check_data(body: Mapping[str, Any], lengths: set[int]) -> None:
    data = body.get("data")
    if not isinstance(data, list) or len(data) not in lengths:
        expected = " or ".join(map(str, sorted(lengths)))
        raise HTTPException(400, f"data should be a list of the function's inputs, {expected} of them.")


def _listed(names: list[str]) -> str:
    """Some names, shortened: they came from the network."""
    return ", ".join(name[:40] for name in names[:20])
