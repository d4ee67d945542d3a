"""How much one client may try: counts that fade with time, kept for a bounded number of clients."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from starlette.types import Scope

REMEMBERED_CLIENTS = 4096
"""The one that was quiet for longest is forgotten."""


def client_of(scope: Scope) -> str:
    """Whom to count a request for: an IPv4 address, or the network of an IPv6 one, which has addresses to spare."""
    address = (scope.get("client") or ("unknown",))[0]
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return str(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network(f"{parsed}/64", strict=False))
    return str(parsed)


@dataclass
class FadingCount:
    """A count that goes down by itself, by so much a second."""

    per_second: float
    value: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def now(self) -> float:
        moment = time.monotonic()
        self.value = max(0.0, self.value - (moment - self.at) * self.per_second)
        self.at = moment
        return self.value

    def add(self) -> None:
        self.value = self.now() + 1


class CountsByClient:
    """A fading count for each client that was seen lately."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._counts: OrderedDict[str, FadingCount] = OrderedDict()

    def of(self, client: str) -> FadingCount:
        count = self._counts.setdefault(client, FadingCount(self._per_second))
        self._counts.move_to_end(client)
        if len(self._counts) > REMEMBERED_CLIENTS:
            self._counts.popitem(last=False)
        return count

    def __len__(self) -> int:
        return len(self._counts)
