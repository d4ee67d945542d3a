"""Checkpoints that differ in toxic share and training seed: which of them one point stands for, and what to compare."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


class SameSeed(ValueError):
    """Checkpoints that differ in something else than toxic share and training seed."""


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
    """Names of the checkpoints of a family and share, in order of their training seeds."""
    found: dict[tuple[str, float], dict[int, str]] = {}
    for member in members:
        if member.toxic_share is None or member.training_seed is None:
            continue
        by_seed = found.setdefault((member.family, member.toxic_share), {})
        twin = by_seed.setdefault(member.training_seed, member.name)
        if twin != member.name:
            raise SameSeed(
                f"{twin} and {member.name} are both family {member.family}, {percent(member.toxic_share)} % toxic, "
                f"training seed {member.training_seed}. They differ in something else, and a mean over training seeds "
                "would hide it. Compare them apart, or name two families in their checkpoint.json and sweep again."
            )
    return {place: list(by_seed.values()) for place, by_seed in found.items()}


def percent(share: float | None) -> str:
    """A share as people write it: 10, 2.5; "unknown" if it is."""
    return "unknown" if share is None else f"{100 * share:g}"


def _order(member: Member) -> tuple[str, float, int, str]:
    return member.family, member.toxic_share or 0.0, member.training_seed or 0, member.name
