"""A plan: everything that says which directions are pushed, apart from how hard."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import get_args

from lens import HeadGrid
from probes.direction import Direction, Kind, direction
from probes.probe import ProbeSet
from steering.steerer import checked_positions

METHODS = ("iti",)


@dataclass(frozen=True)
class Plan:
    """An intervention as a value: stored with every measurement, and enough to repeat it on the same checkpoint."""

    method: str = "iti"
    """iti: push the outputs of the best heads (Li et al. 2023)."""
    probes: str = "toxigen"
    """The probe set that ranks the heads and gives the directions."""
    kind: Kind = "mass-mean"
    """mass-mean: from the toxic texts' mean to the benign ones'. probe-weight: across the probe. random: a control."""
    n_heads: int | None = None
    """How many of the best heads; None is 30 in a model of 256 heads or more (as in the paper), else 12 % of them."""
    positions: str = "last"
    """last: the last prompt position and every generated one. all: every position."""
    seed: int = 0
    """Of the random directions; the others need none."""

    def __post_init__(self) -> None:
        for name, value, known in (("method", self.method, METHODS), ("kind", self.kind, get_args(Kind))):
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}; got {value!r}.")
        checked_positions(self.positions)
        if self.n_heads is not None and (not isinstance(self.n_heads, int) or self.n_heads < 1):
            raise ValueError(f"n_heads is a number of heads from 1 up; got {self.n_heads!r}.")

    def heads_in(self, grid: HeadGrid) -> int:
        """How many heads the plan steers in a model of this size."""
        if self.n_heads is None:
            return default_n_heads(len(grid))
        if self.n_heads > len(grid):
            raise ValueError(f"The model has {len(grid)} heads; the plan asks for {self.n_heads}. Ask for fewer.")
        return self.n_heads

    def directions(self, probe_set: ProbeSet) -> list[Direction]:
        """The directions of the best heads, best first."""
        heads = probe_set.ranked()[: self.heads_in(probe_set.grid)]
        return [direction(probe_set, head, self.kind, seed=self.seed) for head in heads]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        try:
            found = json.loads(text)
            unknown = set(found) - {field.name for field in fields(cls)}
        except (ValueError, TypeError) as error:
            raise ValueError(f"A plan is one JSON object, such as {cls().to_json()}; got {text[:80]!r}.") from error
        if not isinstance(found, dict) or unknown:
            raise ValueError(f"A plan is one JSON object, such as {cls().to_json()}; got {text[:80]!r}.")
        return cls(**found)

    def __str__(self) -> str:
        heads = "best 12 % of heads, or 30" if self.n_heads is None else f"{self.n_heads} best heads"
        where = {"last": "last position", "all": "every position"}[self.positions]
        chance = f", seed {self.seed}" if self.kind == "random" else ""
        return f"{self.method.upper()}, {heads}, {self.kind}{chance}, probes {self.probes}, {where}"


def default_n_heads(n_heads: int) -> int:
    """30 from 256 heads up, as in the paper; in smaller models the same share, 12 %, and at least one."""
    return 30 if n_heads >= 256 else max(1, round(0.12 * n_heads))
