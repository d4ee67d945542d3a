"""Text that grows token by token: no half characters, no lost spaces."""

from __future__ import annotations

import codecs

from lens import Lens

_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_OTHERS = tuple(byte for byte in range(256) if byte not in _PRINTABLE)
BYTE_OF = {chr(byte): byte for byte in _PRINTABLE} | {chr(256 + i): byte for i, byte in enumerate(_OTHERS)}
"""Byte-level BPE (GPT-2's, which OLMo's tokenizers share) writes each byte as one visible character."""


class Words:
    """The text of one row so far. A character whose bytes are still incomplete waits for the rest."""

    def __init__(self, lens: Lens) -> None:
        self.text = ""
        self._tokenizer = lens.tokenizer
        self._whole = {id: str(token) for id, token in lens.tokenizer.added_tokens_decoder.items()}
        self._bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> None:
        if token in self._whole:
            self.text += self._bytes.decode(b"", final=True) + self._whole[token]
            self._bytes.reset()
            return
        characters = self._tokenizer.convert_ids_to_tokens(token)
        self.text += self._bytes.decode(bytes(BYTE_OF[character] for character in characters))
