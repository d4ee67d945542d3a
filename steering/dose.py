"""A plan fitted to one checkpoint, and how much of it a text gets."""

from __future__ import annotations

from dataclasses import dataclass

from lens.numeric import settle_numbers
from steering.edit import Edit
from steering.plan import Plan


@dataclass(frozen=True, eq=False)
class Steering:
    """A plan with all that it needs to act on one checkpoint."""

    plan: Plan
    fingerprint: str
    """Of the checkpoint's weights; no other model is edited."""
    edits: tuple[Edit, ...] = ()
    prefix: str = ""
    """Goes in front of the prompt, for the methods that ask in words."""
    fitted_on: str = ""
    """Digest of the probe set's texts, of those held out, of the order of heads and of the texts that sigma is measured
    on; or of the words in front of the prompt. Empty: made by hand."""

    def at(self, strength: float) -> Doses:
        """So much of it, in the method's own unit; doses of several plans add up: `iti.at(8) + caa.at(1)`."""
        return (Dose(self, self.plan.checked(strength)),)


@dataclass(frozen=True, eq=False)
class Dose:
    """A fitted plan at a strength."""

    steering: Steering
    strength: float
    """In the method's unit; 0 is the plain model."""

    def __post_init__(self) -> None:
        settle_numbers(self)

    @property
    def everywhere(self) -> bool:
        """Whether the prompt is edited too."""
        return self.steering.plan.positions == "all"


Doses = tuple[Dose, ...]
