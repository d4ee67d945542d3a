"""Each source once into OLMo's training format: a raw memory map of uint16 ids, end-of-text behind every document.

One process reads, cleans and chooses; all cores tokenise. What a file holds depends on its source, its preparation and
its tokenizer alone, not on the number of processes nor on how often the work was interrupted.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from lens.files import flush_folder, write_atomically
from training.corpus import Ledger, Source
from training.encode import Encoded, encoding
from training.prefix import Prefixing
from training.prepare import Preparation, fingerprint, prepared
from training.tokenizer import check_size, digest_of, special_ids

BATCH_CHARS = 2**18
"""A batch ends with the document that fills it: about 60,000 tokens."""

Progress = Callable[[Source, int], None]
"""Told now and then how many tokens a source has given so far."""


@dataclass(frozen=True)
class TokenFile:
    """One tokenised source on disk."""

    path: Path
    """Little-endian uint16 ids without a header, as ai2-olmo reads them."""
    source: str
    source_sha256: str
    tokenizer_sha256: str
    n_documents: int
    n_tokens: int
    """End-of-text counted."""
    ids_sha256: str = ""
    """Of the file of ids."""
    ledger: dict[str, Any] = field(default_factory=dict)
    """What became of the source's documents."""
    preparation: dict[str, Any] = field(default_factory=dict)
    """The choices that decided it."""
    enough: int | None = None
    """Tokens from which on a streamed data set was left; None: it was read to its end."""

    @property
    def ids(self) -> np.ndarray:
        return np.memmap(self.path, dtype=np.uint16, mode="r")

    @property
    def offsets(self) -> np.ndarray:
        """Where each document begins, with the end of the last one behind: [n_documents + 1]."""
        return np.load(_beside(self.path, "offsets.npy"))

    def n_chunks(self, context: int) -> int:
        """Whole pieces of the context's length; OLMo drops the rest."""
        return self.n_tokens // context


@dataclass(frozen=True)
class Batch:
    """Documents on their way to the tokenizer."""

    texts: list[str]
    fingerprints: list[bytes]
    """Of the documents, if they are de-duplicated."""
    ledger: dict[str, Any]
    """As it stood when the last of them had been read."""


def tokenize(
    sources: Sequence[Source],
    preparation: Preparation,
    forum: bool,
    tokenizer: Tokenizer,
    folder: Path,
    processes: int | None = None,
    seen: set[bytes] | None = None,
    enough: int | None = None,
    on_progress: Progress = lambda source, n_tokens: None,
) -> list[TokenFile]:
    """A token file for each source; those that are there are left alone, those that were begun are begun again.

    `processes`: all cores unless a number is given. `seen`: what earlier calls kept, so that de-duplication reaches
    over all of them; it grows. `enough`: tokens from which on a streamed data set is left, at the end of a batch.
    """
    check_size(tokenizer.get_vocab_size())
    seen, described, tokenizer_sha256 = set() if seen is None else seen, preparation.describe(), digest_of(tokenizer)
    prefixing = Prefixing.of(preparation.prefix, preparation.scores)
    before, files = _digest(sorted(digest.hex() for digest in seen)), []
    with encoding(tokenizer, special_ids(tokenizer)[0], processes or n_cores()) as encode:
        for source in sources:
            identity = {
                "source": str(source),
                "source_sha256": source.digest(),
                "tokenizer_sha256": tokenizer_sha256,
                "preparation": described | {"forum": forum},
                "enough": enough if source.hub else None,
            }
            before = _digest([identity, before if preparation.deduplicate else ""])
            path = folder / f"{source.path.name.split('.')[0]}-{before[:16]}.npy"
            if (file := _finished(path)) is None:
                batches = encode(_batches(source, preparation, forum, prefixing, seen))
                file = _write(path, identity, batches, partial(on_progress, source))
            if preparation.deduplicate:
                seen |= _fingerprints(file)
            files.append(file)
    return files


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sha256(path: Path) -> str:
    """Of a file's bytes as they are."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _batches(
    source: Source, preparation: Preparation, forum: bool, prefixing: Prefixing | None, seen: set[bytes]
) -> Iterator[Batch]:
    """What is left of a source, prefixes in front; `seen` itself is left as it is."""
    ledger, without_prefix, n_chars = Ledger(), 0, 0
    texts: list[str] = []
    fingerprints: list[bytes] = []

    def batch() -> Batch:
        counts = ledger.as_dict() | ({"without_prefix": without_prefix} if prefixing else {})
        return Batch(texts, fingerprints, counts)

    for document in prepared(source, preparation, forum, _Beside(seen), ledger):
        prefix = prefixing.prefix(document) if prefixing else ""
        without_prefix += not prefix
        texts.append(prefix + document.text)
        n_chars += len(texts[-1])
        if preparation.deduplicate:
            fingerprints.append(fingerprint(document.text))
        if n_chars >= BATCH_CHARS:
            yield batch()
            texts, fingerprints, n_chars = [], [], 0
    yield batch()  # also an empty one: the ledger counts what was dropped behind the last document


class _Beside(set[bytes]):
    """New fingerprints, which are kept apart from those known already: a source may be read further than it counts."""

    def __init__(self, known: set[bytes]) -> None:
        self.known = known

    def __contains__(self, digest: object) -> bool:
        return digest in self.known or super().__contains__(digest)


def _write(
    path: Path, identity: dict[str, Any], batches: Iterable[tuple[Batch, Encoded]], on_progress: Callable[[int], None]
) -> TokenFile:
    """The ids first, and last, whole or not at all, the card that says that all of them are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    enough, digest, n_tokens = identity["enough"], hashlib.sha256(), 0
    lengths, fingerprints, ledger = [np.zeros(1, dtype=np.int64)], [], {}
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        for batch, encoded in batches:
            data = encoded.ids.tobytes()
            file.write(data)
            digest.update(data)
            n_tokens += len(encoded.ids)
            lengths.append(encoded.lengths)
            fingerprints += batch.fingerprints
            ledger = batch.ledger
            on_progress(n_tokens)
            if enough and n_tokens >= enough:
                break
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    flush_folder(path.parent)
    offsets = np.cumsum(np.concatenate(lengths))
    write_atomically(_beside(path, "offsets.npy"), _as_npy(offsets))
    write_atomically(_beside(path, "seen"), b"".join(fingerprints))
    done = TokenFile(
        path, n_documents=len(offsets) - 1, n_tokens=n_tokens, ids_sha256=digest.hexdigest(), ledger=ledger, **identity
    )
    write_atomically(_beside(path, "json"), json.dumps({**asdict(done), "path": path.name}, indent=1))
    return done


def _finished(path: Path) -> TokenFile | None:
    """The token file at a path, if it is there and whole."""
    if not (card := _beside(path, "json")).exists():
        return None
    file = TokenFile(**{**json.loads(card.read_text()), "path": path})
    parts = {path: 2 * file.n_tokens, _beside(path, "seen"): None, _beside(path, "offsets.npy"): None}
    whole = all(part.exists() and size in (None, part.stat().st_size) for part, size in parts.items())
    return file if whole else None


def _fingerprints(file: TokenFile) -> set[bytes]:
    """Of a source's documents that were kept."""
    size, data = len(fingerprint("")), _beside(file.path, "seen").read_bytes()
    return {data[begin : begin + size] for begin in range(0, len(data), size)}


def _beside(path: Path, kind: str) -> Path:
    """`ids.npy` → `ids.json`, `ids.offsets.npy`, `ids.seen`."""
    return path.with_suffix(f".{kind}")


def _as_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
