"""Answers of Gradio's that are changed before they leave."""

from __future__ import annotations

import json
import re

from starlette.types import Message, Send

INTERFACE = re.compile(rb"<script>window\.gradio_api_info = .*?</script>", re.DOTALL)
"""What can be called, with the names of all checkpoints."""


FAILED = json.dumps({"error": "The function failed on these inputs. The server's own log says why.", "visible": True})


def call_answer(send: Send) -> Send:
    """A function that refuses what it was given is answered 422 with its sentence, where Gradio answers 500.

    Gradio gives no sentence where a function failed otherwise: that is a fault of ours, and stays 500.
    """
    start: list[Message] = []

    async def pass_on(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 500:
            start.append(message)
            return
        if start:
            body = message.get("body", b"")
            refused = says_why(body)
            said = body if refused else FAILED.encode()
            headers = [header for header in start[0]["headers"] if header[0].lower() != b"content-length"]
            length = (b"content-length", str(len(said)).encode())
            await send({**start.pop(), "status": 422 if refused else 500, "headers": [*headers, length]})
            message = {"type": "http.response.body", "body": said}
        await send(message)

    return pass_on


def says_why(body: bytes) -> bool:
    """Whether an answer of Gradio's carries a sentence about the error."""
    try:
        return bool(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return False


def hide_folder(send: Send, folder: bytes, name: bytes) -> Send:
    """Answers that name files to hand out, with a name in place of the folder that they lie in.

    A stream's messages come one by one and whole, so that no name is cut in two.
    """

    async def pass_on(message: Message) -> None:
        if message["type"] == "http.response.body" and folder in message.get("body", b""):
            message = {**message, "body": message["body"].replace(folder, name)}
        await send(message)

    return pass_on


def login_page(send: Send) -> Send:
    """The page for those who have not logged in, which Gradio sends with all that can be called."""
    start: list[Message] = []
    body = bytearray()

    async def pass_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.append(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body", False):
            return
        shown = INTERFACE.sub(b"", bytes(body))
        headers = [header for header in start[0]["headers"] if header[0].lower() != b"content-length"]
        await send({**start[0], "headers": [*headers, (b"content-length", str(len(shown)).encode())]})
        await send({"type": "http.response.body", "body": shown})

    return pass_on
