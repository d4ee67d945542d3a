"""Turn it up or down: change what a model computes while it writes, and say what that did and what it cost."""

import lens.terminal  # noqa: F401  # first: it answers Ctrl-C while all else is imported

# isort: split
from steering.bake import NotBaked, bake
from steering.batch import Row
from steering.calibrate import Calibrated, OutOfReach, calibrate
from steering.cost import Cost, cost
from steering.dose import Dose, Doses, Steering
from steering.edit import Affine, Edit, Gate, Site
from steering.generate import Generation, Step, generate, interleaved, stream
from steering.methods.fitting import fit
from steering.methods.table import METHODS
from steering.plan import Plan
from steering.receipt import Receipt, Shift, ShiftMissed
from steering.sampling import Sampling, gumbel, next_tokens
from steering.steerer import Shifts, WrongModel, hooked, steered
from steering.store import NoFit

__all__ = [
    "METHODS",
    "Affine",
    "Calibrated",
    "Cost",
    "Dose",
    "Doses",
    "Edit",
    "Gate",
    "Generation",
    "NoFit",
    "NotBaked",
    "OutOfReach",
    "Plan",
    "Receipt",
    "Row",
    "Sampling",
    "Shift",
    "ShiftMissed",
    "Shifts",
    "Site",
    "Steering",
    "Step",
    "WrongModel",
    "bake",
    "calibrate",
    "cost",
    "fit",
    "generate",
    "gumbel",
    "hooked",
    "interleaved",
    "next_tokens",
    "steered",
    "stream",
]
