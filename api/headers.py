"""Headers of every answer: what a browser may do with the page."""

from __future__ import annotations

from collections.abc import Iterable

POLICY = {
    "default-src": "'self'",
    # Gradio puts its configuration into the page and compiles our event code with `new Function`
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "content-security-policy": "; ".join(f"{what} {whence}" for what, whence in POLICY.items()),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
REPLACED = {name.encode() for name in HEADERS} | {b"access-control-allow-origin", b"access-control-allow-credentials"}
"""What Gradio may have said in their place."""


def with_security(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an answer, and ours."""
    kept = [(name, value) for name, value in headers if name.lower() not in REPLACED]
    return kept + [(name.encode(), value.encode()) for name, value in HEADERS.items()]
