"""How the page speaks of a method: what it does in a few words, and the slider that sets its strength."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from steering.calibrate import DIGITS
from steering.plan import Plan

Marks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Scale:
    """The slider of a method's strength."""

    label: str
    most: int
    """Where the slider ends, unless a calibrated strength lies beyond; the method itself may go further."""
    step: float
    start: float
    """Where it stands when the method is chosen."""
    marks: Marks
    """Strengths with a word for each, which can be pressed."""

    def reaching(self, strength: float) -> Scale:
        """The same, fine enough for a calibrated strength, and long enough."""
        last_digit = math.floor(math.log10(strength)) - DIGITS + 1
        return replace(self, most=max(self.most, math.ceil(strength)), step=float(f"1e{last_digit}"))


SIGMAS = Scale(
    "Strength, in standard deviations",
    16,
    0.5,
    8,
    ((0, "off"), (4, "weak"), (8, "medium"), (12, "strong"), (16, "most")),
)
DIFFERENCES = Scale(
    "Strength, in mean differences", 4, 0.1, 1, ((0, "off"), (1, "weak"), (2, "medium"), (3, "strong"), (4, "most"))
)
SHARE = Scale(
    "Strength, as a share of the way",
    1,
    0.05,
    1,
    ((0, "off"), (0.25, "weak"), (0.5, "half"), (0.75, "strong"), (1, "all")),
)
SWITCH = Scale("Off or on", 1, 1, 1, ((0, "off"), (1, "on")))
SCALES = {
    "iti": SIGMAS,
    "caa": DIFFERENCES,
    "act": SHARE,
    "mean-act": SHARE,
    "ablate": SHARE,
    "leace": SHARE,
    "prompting": SWITCH,
    "prefix": SWITCH,
}
GIST = {
    "iti": "push the best heads",
    "caa": "push the residual stream",
    "act": "shift and stretch activations",
    "mean-act": "shift activations",
    "ablate": "take a direction out",
    "leace": "take out all that a linear probe reads",
    "prompting": "ask in words",
    "prefix": "ask with the words of its training",
}


def said(plan: Plan, strength: float, target: str) -> str:
    """A strength as it stands over a text; `target` is the class that positive strengths lead to."""
    amount, share = f"{strength:g}", f"{100 * strength:g} %"
    to = "along random directions" if plan.kind == "random" else f"to {target}"
    words = {
        "iti": f"{amount} σ {to}",
        "caa": f"{amount} mean difference{'s' * (strength != 1)} {to}",
        "act": f"{share} of the way {to}",
        "mean-act": f"{share} of the way {to}",
        "ablate": f"{share} of a direction taken out",
        "leace": f"{share} of the concept taken out",
        "prompting": "asked in words",
        "prefix": "behind its prefix",
    }
    return words[plan.method] if strength or plan.site else "not asked"
