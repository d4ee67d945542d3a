"""What the panels stand on: checkpoints by name, and the open lenses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lens.checkpoint import Catalogue, Checkpoint
from lens.pool import LensPool
from lens.shown_paths import shown_folder
from lens.validate import Refused, one_line

NOBODY = ""
"""What the second menu says when there is no second checkpoint."""


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

    @property
    def shown(self) -> Path:
        """The folder as the page names it."""
        return shown_folder(self.folder)

    def checkpoint(self, name: object) -> Checkpoint:
        """A checkpoint by its name in the catalogue; never by a path, for the name comes from the network."""
        if not name:
            raise Refused(
                f"There is no checkpoint to use in {self.shown}/. Train one (python -m training run --recipe demo) "
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
