"""Text that grows token by token: no half characters, no lost spaces."""

from __future__ import annotations

import codecs
from itertools import groupby

from lens import Lens

_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_OTHERS = tuple(byte for byte in range(256) if byte not in _PRINTABLE)
BYTE_OF = {byte: byte for byte in _PRINTABLE} | {256 + i: byte for i, byte in enumerate(_OTHERS)}
"""Byte-level BPE (GPT-2's, which OLMo's tokenizers share) writes each byte as one visible character."""


class Words:
    """The tokens of one row so far, and their text once someone reads it.

    A character whose bytes are still incomplete waits for the rest.
    """

    def __init__(self, lens: Lens) -> None:
        self.tokens: list[int] = []
        self._text, self._n_read = "", 0
        self._tokenizer = lens.tokenizer
        self._whole = {id: str(token) for id, token in lens.tokenizer.added_tokens_decoder.items()}
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def text(self) -> str:
        new, self._n_read = self.tokens[self._n_read :], len(self.tokens)
        for whole, some in groupby(new, self._whole.__contains__):
            if whole:
                self._text += self._bytes.decode(b"", final=True) + "".join(self._whole[token] for token in some)
                self._bytes.reset()
            else:
                characters = "".join(self._tokenizer.convert_ids_to_tokens(list(some)))
                self._text += self._bytes.decode(characters.translate(BYTE_OF).encode("latin-1"))
        return self._text
