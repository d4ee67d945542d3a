"""One record per method: all that the plan, the command, the page, a receipt and a sweep know of it.

A method of one's own is a file with its mathematics and a record, and one call of `register`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Bool, Float
from torch import Tensor

from lens import Checkpoint, Lens
from steering.edit import Affine, Edit, Where

Fitter = Callable[[Float[Tensor, "text d"], Bool[Tensor, " text"]], Affine]
"""Activations in float64 and which are of the positive class → the change at strength 1."""


@dataclass(frozen=True)
class Slider:
    """The page's slider for a method's strength."""

    label: str
    most: int
    """Where the slider ends, unless a calibrated strength lies beyond; the method itself may go further."""
    step: float
    start: float
    """Where it stands when the method is chosen."""
    marks: tuple[tuple[float, str], ...]
    """Strengths with a word for each, which can be pressed."""


SHARE_SLIDER = Slider(
    "Strength, as a share of the way",
    1,
    0.05,
    1,
    ((0, "off"), (0.25, "weak"), (0.5, "half"), (0.75, "strong"), (1, "all")),
)
"""For methods whose strength is a share of the way, 0 to 1."""
SWITCH_SLIDER = Slider("Off or on", 1, 1, 1, ((0, "off"), (1, "on")))
"""For methods that are on or off."""
SHARE_UNIT, SWITCH_UNIT = "of the way, 0 to 1", "on or off, 1 or 0"


@dataclass(frozen=True)
class Method:
    """What a method's strength means, where it acts, how it is fitted, and the words for it."""

    key: str
    """In plans, commands and files."""
    name: str
    summary: str
    """What it does, in a few words."""
    unit: str
    """Of its strength."""
    most: float
    """Strengths beyond are mistakes."""
    slider: Slider
    phrase: Callable[[float, str], str]
    """From a strength above 0 and "to benign" to the words over a text."""
    edits: Callable[..., tuple[Edit, ...]] | None = None
    """The change at strength 1 from the plan, the probe set, and the one that sigma is measured on."""
    fitter: Fitter | None = None
    """Instead: fits the change of one head or layer to the activations of texts, layer after layer."""
    prefix: Callable[[Lens], str] | None = None
    """Instead: the words that go in front of the prompt."""
    where: tuple[Where, ...] = ()
    """Hook points that it can change, its own choice first; none: it changes the prompt."""
    strengths: tuple[float, ...] = (0.0, 1.0)
    """What a command shows where no strength is asked for."""
    signed: bool = False
    """Whether a strength below 0 means something."""
    along: bool = False
    """Whether it acts along a direction, whose kind can be chosen."""
    own_sigma: bool = False
    """Whether its strength is in standard deviations, which may be measured on other texts."""
    layers: Literal["best", "all"] = "all"
    """Layers of the residual stream that it changes where none are named: the best-read one, or all."""
    suits: Callable[[Checkpoint | None], bool] = lambda checkpoint: True
    """Whether a checkpoint can be steered by it; None where none is chosen yet."""

    def __post_init__(self) -> None:
        ways = {"edits": self.edits, "fitter": self.fitter, "prefix": self.prefix}
        chosen = [name for name, way in ways.items() if way is not None]
        if len(chosen) != 1:
            raise ValueError(f"{self.name} is fitted in one way, by {', '.join(ways)}; got {chosen or 'none'}.")
        if bool(self.where) is bool(self.prefix):
            raise ValueError(f"{self.name} changes hook points or puts a prefix in front of prompts: one of the two.")
        if not 0 < self.slider.most <= self.most:
            raise ValueError(f"The slider of {self.name} ends above 0 and within its strengths, at most {self.most:g}.")


METHODS: dict[str, Method] = {}
"""By key, in the order in which menus show them."""


def register(method: Method) -> Method:
    """Make a method known to plans and with that to the command, the page, receipts and sweeps."""
    if method.key in METHODS:
        raise ValueError(f"There is a method {method.key!r} already. Choose another key.")
    METHODS[method.key] = method
    return method


def percent_phrase(what: str) -> Callable[[float, str], str]:
    """Words for a strength that is a share; `what` may hold {to}."""

    def words(strength: float, to: str) -> str:
        return f"{100 * strength:g} % of {what.format(to=to)}"

    return words


def menu_label(key: Any) -> str:
    """A method as a menu shows it."""
    return f"{METHODS[key].name}: {METHODS[key].summary}"
