"""What the panels stand on: checkpoints by name, the open lenses, and bounds for what comes from the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lens.checkpoint import Catalogue, Checkpoint
from lens.pool import LensPool

NOBODY = ""
"""What the second menu says when there is no second checkpoint."""


class Refused(ValueError):
    """Something from the browser or the API that no control of ours can produce."""


@dataclass(frozen=True)
class Bench:
    """The folder of checkpoints that a page shows, and the lenses that are open on it."""

    folder: Path
    device: str = "auto"
    dtype: str | None = None
    threads: int | None = None

    @property
    def catalogue(self) -> Catalogue:
        """Read anew each time, so that a checkpoint which has just been trained shows up on reload."""
        return Catalogue(self.folder)

    def checkpoint(self, name: object) -> Checkpoint:
        """A checkpoint by its name in the catalogue; never by a path, for the name comes from the network."""
        if not name:
            raise Refused(
                f"There is no checkpoint to use in {self.folder}/. Train one (python -m training run --recipe demo) "
                "or copy a Hugging Face OLMo folder there, then reload the page."
            )
        return self.catalogue[one_line(name, "the checkpoint")]

    @cached_property
    def pool(self) -> LensPool:
        """The open lenses: a family's small checkpoints stay open together."""
        return LensPool(device=self.device, dtype=self.dtype, threads=self.threads)


def about(checkpoint: Checkpoint) -> str:
    """What the card knows of its training, in a few words."""
    parts = []
    if checkpoint.toxic_share is not None:
        of = "clean amount" if checkpoint.share_of == "clean" else "training text"
        parts.append(f"toxic share {100 * checkpoint.toxic_share:g} % of the {of}")
    if checkpoint.n_tokens:
        parts.append(f"{checkpoint.n_tokens / 1e6:,.1f} M tokens")
    return ", ".join(parts)


def least_and_most_toxic(catalogue: Catalogue) -> tuple[str | None, str]:
    """The pair that shows most: trained on the least toxic text and on the most; without cards, just the first."""
    shares = {name: checkpoint.toxic_share for name, checkpoint in catalogue.items()}
    known = [name for name in shares if shares[name] is not None]
    if len(known) < 2:
        return next(iter(shares), None), NOBODY
    return min(known, key=lambda name: shares[name] or 0.0), max(known, key=lambda name: shares[name] or 0.0)


def one_line(value: object, what: str, most: int = 200) -> str:
    """A short text from the network."""
    if not isinstance(value, str) or len(value) > most or "\n" in value:
        raise Refused(f"{what[:1].upper()}{what[1:]} should be one line of at most {most} characters.")
    return value


def number(value: object, what: str, low: float, high: float) -> float:
    """A finite number from the network, within bounds that the controls keep too."""
    said = f"{what[:1].upper()}{what[1:]} should be a number from {low:g} to {high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # NaN is in no range
        raise Refused(f"{said}; got {str(value)[:40]}.")
    return float(value)


def whole(value: object, what: str, low: int, high: int) -> int:
    """A whole number from the network, within bounds."""
    bounded = number(value, what, low, high)
    if bounded != int(bounded):
        raise Refused(f"{what[:1].upper()}{what[1:]} should be a whole number; got {bounded:g}.")
    return int(bounded)


def one_of(value: object, what: str, choices: Sequence[str]) -> str:
    """One of a short list."""
    if value not in choices:
        raise Refused(f"{what[:1].upper()}{what[1:]} should be one of {', '.join(choices)}; got {str(value)[:40]!r}.")
    return str(value)
