"""A plan: everything that says what is changed in a model, apart from how strongly."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

from lens import Head, HeadGrid
from lens.numeric import as_float, settle_numbers
from probes.direction import Kind
from probes.probe import ProbeSet
from steering.edit import Where
from steering.methods.table import METHODS, Method

POSITIONS = ("last", "all")
"""last: the last prompt position and every generated one (ITI as published). all: every position, as in cost measures
and baked checkpoints."""
BAND = "band"
LAYER_WORDS = {"best": "the best-read layer", "all": "every layer"}


@dataclass(frozen=True)
class Plan:
    """An intervention as a value: stored with every measurement, and enough to repeat it on the same checkpoint."""

    method: str = "iti"
    """iti: push the outputs of the best heads (Li et al. 2023). caa: push the residual stream along the mean
    difference. act, mean-act: carry activations over to the other class (Linear-AcT). ablate: take a direction out.
    leace: take out all that a linear probe can read. prompting: ask in words. prefix: the words that the checkpoint was
    trained with (MEDA, INST)."""
    probes: str = "toxigen"
    """The probe set that ranks heads and layers, and whose texts the method is fitted to."""
    kind: Kind = "mass-mean"
    """Of the direction. mass-mean: from the toxic texts' mean to the benign ones'. probe-weight: across the probe.
    random: a control."""
    heads: int | str | None = None
    """So many of the best; "band": all that are above the null band; "L3H7 L5H0": these; None: 30 in a model of 256
    heads or more (as in the paper), else 12 % of them."""
    layers: tuple[int, ...] = ()
    """Of the residual stream; none given: the one that is read best (caa), or all."""
    where: Where | None = None
    """heads or residual; None: the method's own place."""
    sigma_from: str | None = None
    """The probe set whose texts one standard deviation is measured on (iti); None: `probes`."""
    gate: float | None = None
    """Act only where the site's own probe gives the positive class more than this probability; None: everywhere. From
    1 up it never opens, and is kept as 1."""
    positions: str = "last"
    """last: the last prompt position and every generated one. all: every position."""
    seed: int = 0
    """Of the random directions; the others need none."""

    def __post_init__(self) -> None:
        known_method = isinstance(self.method, str) and self.method in METHODS
        for name, value, known in (
            ("method", self.method, tuple(METHODS)),
            ("kind", self.kind, get_args(Kind)),
            ("positions", self.positions, POSITIONS),
            ("where", self.where, (None, *self.rule.where) if known_method else (None,)),
        ):
            if value not in known:
                choices = ", ".join(repr(choice) for choice in known if choice is not None)
                raise ValueError(f"{name} is one of {choices}; got {value!r}.")
        settle_numbers(self)
        self._refuse_other_types()
        _check_heads(self.heads)
        self._refuse_what_does_not_act()
        if self.gate is not None and self.gate < 0:
            raise ValueError(f"gate is a probability, from 0 to 1, where it never opens; got {self.gate!r}.")
        if self.gate is not None:  # JSON has no infinity, and no probability is more than 1
            object.__setattr__(self, "gate", min(self.gate, 1.0))

    def _refuse_other_types(self) -> None:
        """A plan may come from a file of someone's own."""
        for name, is_right, what in (
            ("probes", isinstance(self.probes, str), "the name of a probe set"),
            ("layers", min(self.layers, default=0) >= 0, "a list of numbers from 0 up, such as [2, 3]"),
            ("sigma_from", isinstance(self.sigma_from, str | None), "the name of a probe set, or nothing"),
        ):
            if not is_right:
                raise ValueError(f"{name} is {what}; got {getattr(self, name)!r}.")

    def _refuse_what_does_not_act(self) -> None:
        """A choice that the method does not look at would be recorded and change nothing."""
        site = self.site
        idle = {
            "heads": site != "heads" and self.heads is not None,
            "layers": site != "residual" and self.layers != (),
            "gate": site is None and self.gate is not None,
            "sigma_from": not self.rule.own_sigma and self.sigma_from is not None,
            "kind": not self.rule.along and self.kind != "mass-mean",
        }
        for name, is_idle in idle.items():
            if is_idle:
                acts = f"which changes {site or 'the prompt'}" if site != "heads" else "which changes heads"
                raise ValueError(f"{name} has no meaning for {self.rule.name}, {acts}. Leave it out.")

    @property
    def rule(self) -> Method:
        return METHODS[self.method]

    @property
    def site(self) -> Where | None:
        """heads, residual, or None for what changes the prompt alone."""
        return self.where or next(iter(self.rule.where), None)

    def checked(self, strength: float) -> float:
        """A strength that this method can have, or a sentence."""
        least, found = -self.rule.most if self.rule.signed else 0.0, as_float(strength)
        if self.site is None and found not in (0, 1):
            raise ValueError(f"{self.rule.name} is on or off: its strength is 1 or 0; got {strength!r}.")
        if found is None or not least <= found <= self.rule.most:
            raise ValueError(
                f"A strength of {self.rule.name} ({self.rule.unit}) is a number from {least:g} to {self.rule.most:g}; "
                f"got {strength!r}."
            )
        return found

    def chosen_heads(self, probes: ProbeSet) -> list[Head]:
        """The heads to change, most accurate first."""
        ranked = probes.ranked()
        if isinstance(self.heads, str) and self.heads != BAND:
            named = {Head.parse(name) for name in self.heads.split()}
            if strange := named - set(ranked):
                raise ValueError(f"{probes.checkpoint} has no head {min(strange)}. {_sizes(probes.grid)}")
            return [head for head in ranked if head in named]
        if self.heads == BAND:
            above = [head for head in ranked if probes.accuracy(head).value > probes.null_band[1]]
            if not above:
                raise ValueError(
                    f"No head of {probes.checkpoint} is above the null band of {probes.name!r}: none reads more than "
                    "the best head does with shuffled labels. Ask for a number of heads, or use other probes."
                )
            return above
        n = default_n_heads(len(ranked)) if self.heads is None else int(self.heads)
        if n > len(ranked):
            raise ValueError(f"{probes.checkpoint} has {len(ranked)} heads; the plan asks for {n}. Ask for fewer.")
        return ranked[:n]

    def chosen_layers(self, probes: ProbeSet) -> list[int]:
        """The layers after which the residual stream is changed, in order."""
        n = probes.grid.n_layers
        if strange := [layer for layer in self.layers if layer not in range(n)]:
            raise ValueError(f"{probes.checkpoint} has no layer {strange[0]}. {_sizes(probes.grid)}")
        if self.layers:
            return sorted(set(self.layers))
        return [probes.best_layer] if self.rule.layers == "best" else list(range(n))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        try:
            found = json.loads(text)
            unknown = set(found) - {field.name for field in fields(cls)}
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"A plan is one JSON object, such as {cls().to_json()}; got {text[:80]!r}.") from error
        if not isinstance(found, dict) or unknown:
            raise ValueError(f"A plan is one JSON object, such as {cls().to_json()}; got {text[:80]!r}.")
        if isinstance(layers := found.get("layers"), list):  # JSON has no tuples
            found["layers"] = tuple(layers)
        return cls(**found)

    def __str__(self) -> str:
        words = [self.rule.name]
        if self.site == "heads":
            words.append(_head_words(self.heads))
        if self.site == "residual":
            words.append(f"layers {' '.join(map(str, self.layers))}" if self.layers else LAYER_WORDS[self.rule.layers])
        if self.rule.along:
            words.append(f"{self.kind}{f', seed {self.seed}' * (self.kind == 'random')}")
        if self.site:
            words.append(f"probes {self.probes}{f', sigma from {self.sigma_from}' * (self.sigma_from is not None)}")
            words += [] if self.gate is None else [f"gate {self.gate:g}"]
            words.append({"last": "last position", "all": "every position"}[self.positions])
        return ", ".join(words)


def default_n_heads(n_heads: int) -> int:
    """30 from 256 heads up, as in the paper; in smaller models the same share, 12 %, and at least one."""
    return 30 if n_heads >= 256 else max(1, round(0.12 * n_heads))


def checked_positions(positions: str) -> str:
    if positions not in POSITIONS:
        raise ValueError(f"positions is one of {' or '.join(map(repr, POSITIONS))}; got {positions!r}.")
    return positions


def _check_heads(heads: Any) -> None:
    if heads is None or heads == BAND or (isinstance(heads, int) and not isinstance(heads, bool) and heads > 0):
        return
    if not isinstance(heads, str) or not heads.split():
        raise ValueError(f'heads is a number from 1 up, "band", or names such as "L3H7 L5H0"; got {heads!r}.')
    for name in heads.split():
        Head.parse(name)


def _sizes(grid: HeadGrid) -> str:
    return f"It has layers 0 to {grid.n_layers - 1} with heads 0 to {grid.n_heads - 1}."


def _head_words(heads: int | str | None) -> str:
    if heads is None:
        return "best 12 % of heads, or 30"
    if heads == BAND:
        return "heads above the null band"
    return f"heads {heads}" if isinstance(heads, str) else f"{heads} best heads"
