"""The names that this server goes by, and which other sites may send to it: none."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException

HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?")
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Hosts:
    """The names and addresses that a request may be sent to.

    A name that somebody else's DNS points at this machine is none of them, so that a foreign site cannot reach the
    server through a visitor's browser (DNS rebinding).
    """

    names: frozenset[str] = LOOPBACK
    any_address: bool = False
    """Any address written as a number: DNS cannot point a number elsewhere."""

    @classmethod
    def of(cls, listening: str, given: Iterable[str] = ()) -> Hosts:
        """Those of a server that listens on this address and also goes by the given names."""
        given = frozenset(map(plain, given))
        if not is_everywhere(listening):
            own = LOOPBACK if is_loopback(listening) else frozenset()
            return cls(own | given | {plain(listening)})
        here = plain(socket.gethostname())
        return cls(LOOPBACK | given | {here, f"{here.partition('.')[0]}.local"}, any_address=True)

    def check_host(self, host: str) -> None:
        """Refuse a request that was meant for another server."""
        written = HOST.fullmatch(host)
        name = plain(written["name"]) if written else ""
        if not name or not (name in self.names or (self.any_address and is_address(name))):
            raise HTTPException(
                400, "This server does not go by that name. Give its names with --hostname when you start it."
            )


def check_origin(headers: Mapping[str, str], host: str) -> None:
    """Refuse what another site's page sends or opens in a visitor's browser."""
    origin = headers.get("origin")
    foreign = origin is not None and not is_same(origin, host)
    if foreign or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        raise HTTPException(403, "Another site's page may not use this server.")


def is_same(origin: str, host: str) -> bool:
    """Whether an Origin is the page of this Host: same name, same port."""
    if not (written := HOST.fullmatch(host)):
        return False
    try:
        parts = urlsplit(origin)
        name, port = plain(parts.hostname or ""), parts.port
    except ValueError:
        return False
    usual = PORTS.get(parts.scheme)
    if usual is None or parts.username is not None or parts.path or parts.query:
        return False
    return (name, port or usual) == (plain(written["name"]), int(written["port"] or usual))


def plain(name: str) -> str:
    """A name or an address in its one spelling."""
    bare = name.lower().removesuffix(".").removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Whether only this machine can reach an address."""
    bare = plain(name)
    return bare == "localhost" or (is_address(bare) and ipaddress.ip_address(bare).is_loopback)


def is_everywhere(name: str) -> bool:
    """Whether to listen on an address is to listen on all of the machine's."""
    bare = plain(name)
    return is_address(bare) and ipaddress.ip_address(bare).is_unspecified
