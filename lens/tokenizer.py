"""A tokenizer from a `tokenizer.json`: a byte-level BPE, as all OLMo 1 have, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens.config import ModelConfig
from lens.fingerprint import LARGEST_TOKENIZER, TOKENIZER
from lens.reading import BrokenCheckpoint, read_json_object, shorten

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

CURE = "Copy the tokenizer.json that the model was trained with."
SAMPLE = "A first text, 12 words or fewer: naïve — with\n\n  gaps!"
PATTERNS = frozenset(
    {
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+",
    }
)
"""Regular expressions that published tokenizers split by; another one may take for ever on some text."""


def load_tokenizer(folder: Path, config: ModelConfig) -> PreTrainedTokenizerFast:
    """The vocabulary as tokenizer.json has it; which tokens end a text is what the config says."""
    from transformers import PreTrainedTokenizerFast

    path = folder / TOKENIZER
    backend = read_tokenizer(path)
    _check_vocabulary(path, backend, config)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, padding_side="left")
    ends = [backend.id_to_token(end) for end in config.eos_token_id]
    if None in ends:
        raise BrokenCheckpoint(
            f"{folder / 'config.json'} says that token {config.eos_token_id[ends.index(None)]} ends a text, which "
            f'{TOKENIZER} does not have. Set "eos_token_id" to the id of the end-of-text token.'
        )
    tokenizer.eos_token = tokenizer.pad_token = ends[0]
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a file; refused unless it is one that Hormesis can rely on."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel
    from tokenizers.models import BPE

    content = read_json_object(path, "the vocabulary", LARGEST_TOKENIZER)
    if unknown := next(
        (p for p in _patterns(content.get("pre_tokenizer"), content.get("normalizer")) if p not in PATTERNS), None
    ):
        raise BrokenCheckpoint(
            f"{path} splits text by {shorten(unknown)}, which no OLMo tokenizer does and may take for ever. {CURE}"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.encode(SAMPLE)
    except BaseException as error:  # the library raises no narrower class, and panics of its own
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise BrokenCheckpoint(f"{path} is not a tokenizer of the tokenizers library ({error}). {CURE}") from error
    if not isinstance(tokenizer.decoder, ByteLevel):
        raise BrokenCheckpoint(
            f"{path} does not write text byte by byte, as the tokenizers of all OLMo models do. {CURE}"
        )
    if not isinstance(tokenizer.model, BPE) or tokenizer.model.dropout:
        raise BrokenCheckpoint(
            f"{path} is no byte-pair encoding that gives the same tokens each time, as the tokenizers of all OLMo "
            f"models are. {CURE}"
        )
    return tokenizer


def warnings_of_ends(tokenizer: PreTrainedTokenizerFast, config: ModelConfig) -> list[str]:
    """End tokens that stand in ordinary text: it would be cut off at the first of them."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    pieces = {end: tokenizer.decode([end]) for end in config.eos_token_id if end not in added}
    return [
        f"Token {end} ends a text here, and it is a plain piece of text, {piece!r}: texts will end there. Set "
        '"eos_token_id" in config.json to the id of the end-of-text token.'
        for end, piece in pieces.items()
        if not re.fullmatch(r"\s*(<.+>|\[.+\]|\|.+\|)\s*", piece)
    ]


def tokens_put_around(tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[int]]:
    """What the tokenizer itself puts in front of a text and behind it; Hormesis asks it not to."""
    alone, whole = (tokenizer(SAMPLE, add_special_tokens=added)["input_ids"] for added in (False, True))
    begin = next((n for n in range(len(whole)) if whole[n : n + len(alone)] == alone), 0)
    return whole[:begin], whole[begin + len(alone) :]


def _check_vocabulary(path: Path, tokenizer: Tokenizer, config: ModelConfig) -> None:
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest < 0:
        raise BrokenCheckpoint(f"{path} has no tokens. {CURE}")
    if largest >= config.vocab_size:
        raise BrokenCheckpoint(
            f"{path} has token {largest}, but the model's vocabulary has {config.vocab_size} rows. {CURE}"
        )


def _patterns(*parts: Any) -> Iterator[str]:
    """Every regular expression inside parts of a tokenizer."""
    for part in parts:
        if isinstance(part, dict):
            yield from (str(value) for name, value in part.items() if name == "Regex")
            yield from _patterns(*part.values())
        elif isinstance(part, list):
            yield from _patterns(*part)
