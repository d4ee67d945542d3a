"""Checkpoints that differ in toxic share and training seed: which of them one point stands for, and what to compare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A checkpoint's place in its family."""

    name: str
    family: str
    toxic_share: float | None
    """Of all training tokens; None: unknown."""
    training_seed: int | None


@dataclass(frozen=True)
class Shown:
    """What a point stands for: one checkpoint, or those of one share with every training seed, averaged."""

    name: str
    family: str
    toxic_share: float | None
    training_seed: int | None
    """None: unknown, or several."""
    members: tuple[str, ...]
    """Names of the checkpoints."""

    @property
    def slug(self) -> str:
        """The first part of its points' keys."""
        return self.name if len(self.members) == 1 else f"{self.family}-{percent(self.toxic_share)}-mean"

    def key(self, *parts: str) -> str:
        return key(self.slug, *parts)


def key(*parts: str) -> str:
    """A point's key; it is part of an SVG id and so holds no spaces."""
    return re.sub(r"\s+", "_", "/".join(parts))


def shown(members: Iterable[Member]) -> list[Shown]:
    """Every checkpoint alone, and every share that several training seeds have."""
    everyone = sorted(set(members), key=_order)
    alone = [Shown(m.name, m.family, m.toxic_share, m.training_seed, (m.name,)) for m in everyone]
    return alone + [
        Shown(f"{family} {percent(share)} %, mean of {len(names)} seeds", family, share, None, tuple(names))
        for (family, share), names in by_share(everyone).items()
        if len(names) > 1
    ]


def tops(points: Sequence[Shown]) -> list[Shown]:
    """The means, and those checkpoints that are in none."""
    averaged = {name for point in points if len(point.members) > 1 for name in point.members}
    found = [point for point in points if len(point.members) > 1 or point.name not in averaged]
    return sorted(found, key=lambda point: (point.family, point.toxic_share or 0.0, point.name))


def baselines(members: Iterable[Member]) -> dict[str, str]:
    """For each checkpoint the least toxic one of the same family and training seed; itself, if it is that."""
    least: dict[tuple[str, int | None], Member] = {}
    everyone = sorted(set(members), key=_order)
    for member in everyone:
        if member.toxic_share is not None:
            least.setdefault((member.family, member.training_seed), member)
    return {m.name: least.get((m.family, m.training_seed), m).name for m in everyone}


def by_share(members: Iterable[Member]) -> Mapping[tuple[str, float], list[str]]:
    """Names of the checkpoints of a family and share, in order of their training seeds.

    Where two have one seed they differ in something else, such as the step, which a mean over seeds would hide: such a
    share is left out.
    """
    found: dict[tuple[str, float], list[Member]] = {}
    for member in members:
        if member.toxic_share is not None and member.training_seed is not None:
            found.setdefault((member.family, member.toxic_share), []).append(member)
    return {
        place: [member.name for member in some]
        for place, some in found.items()
        if len({member.training_seed for member in some}) == len(some)
    }


def percent(share: float | None) -> str:
    """A share as people write it: 10, 2.5; "unknown" if it is."""
    return "unknown" if share is None else f"{100 * share:g}"


def _order(member: Member) -> tuple[str, float, int, str]:
    return member.family, member.toxic_share or 0.0, member.training_seed or 0, member.name
