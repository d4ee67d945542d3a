"""How the page speaks of a strength: the slider that reaches it, and the words over a text."""

from __future__ import annotations

import math
from dataclasses import replace

from steering.calibrate import DIGITS
from steering.methods.table import Slider
from steering.plan import Plan


def reaching(slider: Slider, strength: float) -> Slider:
    """The same slider, fine enough for a calibrated strength, and long enough."""
    last_digit = math.floor(math.log10(strength)) - DIGITS + 1
    return replace(slider, most=max(slider.most, math.ceil(strength)), step=float(f"1e{last_digit}"))


def title(plan: Plan, strength: float, target: str) -> str:
    """What stands over a steered text: the method, and how strong it is."""
    return f"{plan.rule.name}, {said(plan, strength, target)}"


def said(plan: Plan, strength: float, target: str) -> str:
    """A strength as it stands over a text; `target` is the class that positive strengths lead to."""
    if not strength and not plan.site:
        return "not asked"
    return plan.rule.phrase(strength, "along random directions" if plan.kind == "random" else f"to {target}")
