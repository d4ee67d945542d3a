"""Plans as they are written in a command: none, prompting, iti@8, iti:heads=band,gate=0.5@0.1nats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any

from lens.numeric import settle_numbers
from steering import METHODS, Plan

PLAIN = "none"
NATS = "nats"
EXAMPLES = "none, prompting, iti@8, caa@0.1nats or iti:heads=band,gate=0.5@8"


class NoSuchPlan(ValueError):
    """Words that name no plan; the sentence offers the nearest ones."""


@dataclass(frozen=True)
class AskedPlan:
    """A plan with its strength, or with what the strength may cost."""

    label: str
    """As it was written; it names the plan in all results."""
    plan: Plan | None = None
    """None: the plain model."""
    strength: float | None = None
    """In the method's own unit; None until a calibration has found it."""
    nats: float | None = None
    """KL per token that the strength is to spend; None: it was given outright."""

    def __post_init__(self) -> None:
        settle_numbers(self)

    @property
    def described(self) -> dict[str, Any] | None:
        """What stands in results; None for the plain model."""
        if self.plan is None:
            return None
        return {"plan": asdict(self.plan), "strength": self.strength, "nats": self.nats}


def read_plan(label: str, probes: str | None = None) -> AskedPlan:
    """METHOD[:field=value,...]@STRENGTH[nats], every field of `Plan` by its name; `probes` where none are named.

    Heads and layers are lists with + between them: heads=L3H7+L5H0, layers=2+3.
    """
    if label == PLAIN:
        return AskedPlan(label)
    what, _, amount = label.rpartition("@") if "@" in label else (label, "", "")
    method, _, choices = what.partition(":")
    if method not in METHODS:
        raise NoSuchPlan(f"There is no plan {label!r}.{_near(method, [PLAIN, *METHODS])} Write {EXAMPLES}.")
    try:
        chosen = _chosen(choices)
        if probes and METHODS[method].where:
            chosen.setdefault("probes", probes)
        plan = Plan(method=method, **chosen)
        return AskedPlan(label, plan, *_amount(plan, amount))
    except ValueError as error:
        raise NoSuchPlan(f"{label}: {error}") from error


def _chosen(choices: str) -> dict[str, Any]:
    """Fields of the plan, each as its own kind of value."""
    known = {field.name for field in fields(Plan)} - {"method"}
    chosen: dict[str, Any] = {}
    for choice in filter(None, choices.split(",")):
        name, equals, value = choice.partition("=")
        if not equals or name not in known:
            raise ValueError(f"{choice!r} is no field=value.{_near(name, known)} Fields: {', '.join(sorted(known))}.")
        if name in chosen:
            raise ValueError(f"{name} is given twice.")
        try:
            chosen[name] = VALUES.get(name, str)(value)
        except ValueError as error:
            raise ValueError(f"{name} cannot be {value!r}.") from error
    return chosen


def _amount(plan: Plan, amount: str) -> tuple[float | None, float | None]:
    """Strength or nats. What is on or off is on."""
    if plan.site is None and not amount:
        return 1.0, None
    number = amount.removesuffix(NATS)
    try:
        value = float(number)
    except ValueError as error:
        raise ValueError(f"it takes a strength behind an @, as in {plan.method}@1 or {plan.method}@0.1nats.") from error
    if number == amount:
        return plan.checked(value), None
    if plan.site is None:
        raise ValueError(f"{plan.rule.name} is on or off and has no strength to find. Leave out @{amount}.")
    if not 0 < value < float("inf"):
        raise ValueError(f"nats are a KL per token above 0, such as 0.1; got {number}.")
    return None, value


def _heads(words: str) -> int | str:
    return int(words) if words.isdecimal() else words.replace("+", " ")


def _layers(words: str) -> tuple[int, ...]:
    return tuple(int(word) for word in words.replace("+", " ").split())


VALUES: Mapping[str, Callable[[str], Any]] = {"heads": _heads, "layers": _layers, "gate": float, "seed": int}
"""How the fields are read that are no mere words."""


def _near(name: str, names: Any) -> str:
    near = get_close_matches(name, names, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
