"""Turn it up or down: push heads along directions while a model writes, and say what that did and what it cost."""

from steering.batch import Row
from steering.cost import Cost, cost
from steering.generate import DETOX_PROMPT, Generation, Step, generate, interleaved, prompted, stream
from steering.plan import Plan
from steering.receipt import Receipt, Shift, ShiftMissed
from steering.sampling import Sampling, gumbel, next_tokens
from steering.steerer import biased, pushes, steered

__all__ = [
    "DETOX_PROMPT",
    "Cost",
    "Generation",
    "Plan",
    "Receipt",
    "Row",
    "Sampling",
    "Shift",
    "ShiftMissed",
    "Step",
    "biased",
    "cost",
    "generate",
    "gumbel",
    "interleaved",
    "next_tokens",
    "prompted",
    "pushes",
    "steered",
    "stream",
]
