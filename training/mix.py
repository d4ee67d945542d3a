"""How much toxic text goes where: one clean order per family, nested toxic sets put into it.

Runs of one family differ by their toxic chunks alone. The toxic chunks of a smaller share are among those of a larger
one, in the same order. Matched by clean text, each is inserted at its own place between the clean chunks, which are the
same in every run, so that a larger share is a longer run. Matched by the total, each takes the place of a clean chunk:
every run is as long, sees the same chunk at every place that no toxic text has taken, and has less clean text. A run is
one pass over its order, and warm-up and decay stretch over all of its steps: in the first case a larger share has more
steps, in the second all have the same ones. Text that is too short may be gone through again: up to four passes over
the same text are nearly as good as new text (Muennighoff et al. 2023, arXiv 2305.16264).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lens.files import write_atomically
from lens.numeric import settle_numbers
from training import prefix
from training.tokens import TokenFile


class MixError(ValueError):
    """A mix that the given text does not allow, with one that it does."""


@dataclass(frozen=True)
class Mix:
    """How much toxic text goes into a training set."""

    clean_tokens: int
    """Of a run without toxic text, and so of every run unless the totals are matched."""
    toxic_share: float
    """Toxic tokens as a share of all tokens (or of the clean ones), 0 to just under 1."""
    share_of: Literal["total", "clean"] = "total"
    match: Literal["clean", "total"] = "clean"
    """What is equal in every run of the family: with "total", toxic text replaces clean text."""
    seed: int = 0
    """Of the clean order, the toxic order and the places; a family shares it."""
    held_out_chunks: int = 64
    """Chunks of either kind that no run of the family sees."""
    repeat: bool = False
    """Go through text again where it is too short; each pass has an order of its own."""

    def __post_init__(self) -> None:
        settle_numbers(self)
        if not 0 <= self.toxic_share < 1:
            raise MixError(f"toxic_share is a share, so 0.10 and not 10; got {self.toxic_share}.")
        if self.clean_tokens < 1:
            raise MixError(f"clean_tokens must be at least 1; got {self.clean_tokens}.")

    def toxic_chunks(self, n: int) -> int:
        """Toxic chunks of a run whose sibling without toxic text has `n` chunks."""
        of_total = self.toxic_share if self.share_of == "total" else self.toxic_share / (1 + self.toxic_share)
        return round(n * (of_total if self.match == "total" else of_total / (1 - of_total)))

    def clean_chunks(self, n: int) -> int:
        """Clean chunks of the same run."""
        return n - self.toxic_chunks(n) if self.match == "total" else n


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
    """Draw the family's clean order and put this run's toxic chunks where they belong."""
    n_clean, n_toxic = (sum(file.n_chunks(context) for file in files) for files in (clean, toxic))
    n, there = mix.clean_tokens // context, max(n_clean - mix.held_out_chunks, 0)
    if n < 1 or not there or (n > there and not mix.repeat):
        raise MixError(
            f"The clean files hold {there * context:,} tokens for training, in chunks of {context}, beside "
            f"{mix.held_out_chunks} held-out chunks; {mix.clean_tokens:,} were asked for. Ask for fewer, add text, or "
            "use it again with --repeat."
        )
    rng = np.random.Generator(np.random.PCG64([mix.seed, 1]))
    held_out_clean, pool = np.split(rng.permutation(n_clean), [mix.held_out_chunks])
    held_out_toxic, toxic_pool = np.split(n_clean + rng.permutation(n_toxic), [min(mix.held_out_chunks, n_toxic)])
    sequence = _passes(pool, n, np.random.Generator(np.random.PCG64([mix.seed, 3])))
    chosen = _enough(toxic_pool, mix, n)
    join = _replacing if mix.match == "total" else _between
    sequence = join(sequence, chosen, np.random.Generator(np.random.PCG64([mix.seed, 2]))).astype(np.uint32)
    return Order(sequence, len(chosen), context, held_out_clean, held_out_toxic)


def _passes(pool: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """The first n of the pool, and of the pool in other orders behind it where it is shorter."""
    passes = [pool]
    while sum(map(len, passes)) < n:
        passes.append(rng.permutation(pool))
    return np.concatenate(passes)[:n]


def _between(clean: np.ndarray, toxic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each toxic chunk at its own place between the clean ones, however many others there are."""
    keys = np.concatenate([(np.arange(len(clean)) + 0.5) / len(clean), rng.random(len(toxic))])
    return np.concatenate([clean, toxic])[np.argsort(keys, kind="stable")]


def _replacing(clean: np.ndarray, toxic: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each toxic chunk in the place of one clean chunk, however many others there are."""
    sequence = clean.copy()
    sequence[rng.permutation(len(clean))[: len(toxic)]] = toxic
    return sequence


def _enough(pool: np.ndarray, mix: Mix, n: int) -> np.ndarray:
    """The run's toxic chunks, the first ones of the family's."""
    wanted = mix.toxic_chunks(n)
    if wanted <= len(pool):
        return pool[:wanted]
    if mix.repeat and len(pool):
        return _passes(pool, wanted, np.random.Generator(np.random.PCG64([mix.seed, 4])))
    beside = n - len(pool) if mix.match == "total" else n
    fits = len(pool) / (beside + (len(pool) if mix.share_of == "total" else 0))
    way_out = (
        f"The largest that fits is {np.floor(fits * 1000) / 1000:g}; fewer clean tokens allow more, and --repeat uses "
        "the toxic text again."
    )
    raise MixError(
        f"A toxic share of {mix.toxic_share:g} needs {wanted:,} chunks of toxic text and there are {len(pool):,}, "
        f"beside at most {mix.held_out_chunks} held-out ones. {way_out if len(pool) else 'Add toxic text.'}"
    )


def manifest(mix: Mix, drawn: Order, clean: Sequence[TokenFile], toxic: Sequence[TokenFile]) -> dict[str, Any]:
    """What went into a run: requested and achieved share, counts, choices, digests of every input and of the order."""
    style = next((file.preparation.get("prefix") for file in clean), None)
    return {
        **asdict(mix),
        "achieved_share_of_total": drawn.achieved_share,
        "achieved_share_of_clean": drawn.n_toxic / max(len(drawn.chunks) - drawn.n_toxic, 1),
        "n_tokens": drawn.n_tokens,
        "n_toxic_tokens": drawn.n_toxic * drawn.context,
        "n_clean_tokens": (len(drawn.chunks) - drawn.n_toxic) * drawn.context,
        "context": drawn.context,
        "order_sha256": digest(drawn),
        "prefixes": style and prefix.describe(style),
        "preparation": {"clean": _preparation(clean), "toxic": _preparation(toxic)},
        "clean": [_describe(file) for file in clean],
        "toxic": [_describe(file) for file in toxic],
    }


def digest(drawn: Order) -> str:
    """SHA-256 of a run's order: names which chunks it saw, and when."""
    return hashlib.sha256(drawn.chunks.tobytes()).hexdigest()


def write(folder: Path, drawn: Order, description: dict[str, Any]) -> None:
    """`chunks.u4`, the held-out chunks and, last, `mix.json`."""
    for name in ("chunks", "held_out_clean", "held_out_toxic"):
        write_atomically(folder / f"{name}.u4", getattr(drawn, name).astype("<u4").tobytes())
    write_atomically(folder / "mix.json", json.dumps(description, indent=1))


def chunks_of(folder: Path, name: str = "chunks") -> np.ndarray:
    """Read back one of the arrays that `write` left in a run's folder."""
    return np.fromfile(folder / f"{name}.u4", dtype="<u4")


def _preparation(files: Sequence[TokenFile]) -> dict[str, Any] | None:
    """The choices that all files of a kind share."""
    differing = {json.dumps(file.preparation, sort_keys=True) for file in files}
    if len(differing) > 1:
        raise MixError(f"{files[0].source} and others of its kind were prepared differently; prepare them together.")
    return files[0].preparation if files else None


def _describe(file: TokenFile) -> dict[str, Any]:
    return {
        "source": file.source,
        "source_sha256": file.source_sha256,
        "ids_sha256": file.ids_sha256,
        "n_documents": file.n_documents,
        "n_tokens": file.n_tokens,
        "ledger": file.ledger,
        "path": str(file.path.resolve()),
    }
