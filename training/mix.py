"""How much toxic text goes where: one clean order per family, nested toxic sets inserted into it.

Runs of one family differ by the inserted toxic chunks alone: the clean chunks come in the same order in each, and the
toxic chunks of a smaller share are among those of a larger one, at the same places between the clean ones.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lens.files import write_atomically
from training.tokens import TokenFile


class MixError(ValueError):
    """A mix that the given text does not allow, with one that it does."""


@dataclass(frozen=True)
class Mix:
    """How much toxic text goes into a training set."""

    clean_tokens: int
    """The same in every run, so that runs differ by the toxic text alone."""
    toxic_share: float
    """Toxic tokens as a share of all tokens (or of the clean ones), 0 to just under 1."""
    share_of: Literal["total", "clean"] = "total"
    seed: int = 0
    """Of the clean order, the toxic order and the places; a family shares it."""
    held_out_chunks: int = 64
    """Chunks of either kind that no run of the family sees."""
    repeat: bool = False
    """Go through the toxic text again where it is too short."""

    def __post_init__(self) -> None:
        if not 0 <= self.toxic_share < 1:
            raise MixError(f"toxic_share is a share, so 0.10 and not 10; got {self.toxic_share}.")
        if self.clean_tokens < 1:
            raise MixError(f"clean_tokens must be at least 1; got {self.clean_tokens}.")

    def toxic_chunks(self, clean_chunks: int) -> int:
        """Toxic chunks beside so many clean ones."""
        of_clean = self.toxic_share if self.share_of == "clean" else self.toxic_share / (1 - self.toxic_share)
        return round(clean_chunks * of_clean)


@dataclass(frozen=True)
class Order:
    """The chunks of one run, in the order of training."""

    chunks: np.ndarray
    """Chunk numbers over all files, clean files first: [n_chunks]."""
    n_toxic: int
    context: int
    held_out_clean: np.ndarray
    held_out_toxic: np.ndarray

    @property
    def n_tokens(self) -> int:
        return len(self.chunks) * self.context

    @property
    def achieved_share(self) -> float:
        """Toxic tokens as a share of all tokens."""
        return self.n_toxic / max(len(self.chunks), 1)


def order(mix: Mix, clean: Sequence[TokenFile], toxic: Sequence[TokenFile], context: int) -> Order:
    """Draw the family's clean order and put this run's toxic chunks between."""
    n_clean, n_toxic = (sum(file.n_chunks(context) for file in files) for files in (clean, toxic))
    wanted_clean = mix.clean_tokens // context
    if wanted_clean < 1 or wanted_clean + mix.held_out_chunks > n_clean:
        most = (n_clean - mix.held_out_chunks) * context
        raise MixError(f"The clean files hold {most:,} tokens for training; {mix.clean_tokens:,} were asked for.")
    rng = np.random.Generator(np.random.PCG64([mix.seed, 1]))
    clean_order = rng.permutation(n_clean)
    toxic_order = n_clean + rng.permutation(n_toxic)
    held_out_toxic, pool = np.split(toxic_order, [min(mix.held_out_chunks, n_toxic)])
    wanted_toxic = mix.toxic_chunks(wanted_clean)
    places = np.random.Generator(np.random.PCG64([mix.seed, 2])).random(wanted_toxic)
    chosen = _enough(pool, wanted_toxic, mix, wanted_clean)
    keys = np.concatenate([(np.arange(wanted_clean) + 0.5) / wanted_clean, places])
    held_out_clean, clean_pool = np.split(clean_order, [mix.held_out_chunks])
    chunks = np.concatenate([clean_pool[:wanted_clean], chosen])
    sequence = chunks[np.argsort(keys, kind="stable")].astype(np.uint32)
    return Order(sequence, wanted_toxic, context, held_out_clean, held_out_toxic)


def _enough(pool: np.ndarray, wanted: int, mix: Mix, clean_chunks: int) -> np.ndarray:
    if wanted <= len(pool):
        return pool[:wanted]
    if mix.repeat and len(pool):
        return np.resize(pool, wanted)
    fits = len(pool) / (clean_chunks + (len(pool) if mix.share_of == "total" else 0))
    raise MixError(
        f"A toxic share of {mix.toxic_share:g} needs {wanted:,} chunks of toxic text and there are {len(pool):,}. "
        f"The largest that fits is {np.floor(fits * 1000) / 1000:g}; fewer clean tokens allow more, and --repeat "
        "uses the toxic text again."
    )


def manifest(mix: Mix, drawn: Order, clean: Sequence[TokenFile], toxic: Sequence[TokenFile]) -> dict[str, Any]:
    """What went into a run: requested and achieved share, counts, digests of every input and of the order."""
    return {
        **asdict(mix),
        "achieved_share_of_total": drawn.achieved_share,
        "achieved_share_of_clean": drawn.n_toxic / max(len(drawn.chunks) - drawn.n_toxic, 1),
        "n_tokens": drawn.n_tokens,
        "n_toxic_tokens": drawn.n_toxic * drawn.context,
        "n_clean_tokens": (len(drawn.chunks) - drawn.n_toxic) * drawn.context,
        "context": drawn.context,
        "order_sha256": digest(drawn),
        "clean": [_describe(file) for file in clean],
        "toxic": [_describe(file) for file in toxic],
    }


def digest(drawn: Order) -> str:
    """SHA-256 of a run's order: names which chunks it saw, and when."""
    return hashlib.sha256(drawn.chunks.tobytes()).hexdigest()


def write(folder: Path, drawn: Order, description: dict[str, Any]) -> None:
    """`order.npy`, the held-out chunks and, last, `mix.json`."""
    for name in ("chunks", "held_out_clean", "held_out_toxic"):
        write_atomically(folder / f"{name}.u4", getattr(drawn, name).astype("<u4").tobytes())
    write_atomically(folder / "mix.json", json.dumps(description, indent=1))


def chunks_of(folder: Path, name: str = "chunks") -> np.ndarray:
    """Read back one of the arrays that `write` left in a run's folder."""
    return np.fromfile(folder / f"{name}.u4", dtype="<u4")


def _describe(file: TokenFile) -> dict[str, Any]:
    return {
        "source": file.source,
        "source_sha256": file.source_sha256,
        "n_documents": file.n_documents,
        "n_tokens": file.n_tokens,
        "path": str(file.path.resolve()),
    }
