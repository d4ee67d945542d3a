"""Words as hashed character n-grams: what the built-in scorer reads of a text, without any list of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SIZES = (2, 3, 4, 5)  # bytes of an n-gram, a blank at either end of the word among them
LONGEST = 32  # bytes of a word of which n-grams are read: chatter without blanks costs no more than a word
BLANK, NEXT_TEXT = ord(" "), ord("\n")
IN_WORDS = b"abcdefghijklmnopqrstuvwxyz0123456789'*@$" + bytes(range(128, 256)) + b"\n"
"""Bytes of lower-cased text that words are made of; stars and the like because they stand for letters in some words.

Bytes from 128 on are of characters beyond ASCII: letters, but curly quotes and dashes too.
"""
KEPT = bytes(byte if byte in IN_WORDS else BLANK for byte in range(256))
BASE = 0x9E3779B97F4A7C15
INVERSE = pow(BASE, -1, 2**64)
STIR, SALT = np.uint64(0xD6E8FEB86659FD93), np.uint64(0xA24BAED4963EE407)


@dataclass(frozen=True)
class Words:
    """The words of some texts, each different one with the n-grams it is made of."""

    word: np.ndarray
    """For every word of every text, which of the different words it is; one text after the other."""
    n_words: np.ndarray
    """How many words each text has."""
    gram: np.ndarray
    """Rows of the table, 0 to n_rows - 1: the n-grams of each different word, and the word itself."""
    n_grams: np.ndarray
    """How many n-grams each different word has; at least one."""


def read_words(texts: Sequence[str], n_rows: int) -> Words:
    """Hash all words of all texts at once; n_rows is a power of two.

    A rolling hash (Karp and Rabin 1987) of any span is the difference of two prefix sums, shifted back to where every
    span starts; modulo 2⁶⁴, where an odd base has an inverse, this is exact, so a word hashes alike wherever it stands.
    """
    stream = letters(texts)
    gap = (stream == BLANK) | (stream == NEXT_TEXT)
    starts, ends = np.flatnonzero(gap[:-1] & ~gap[1:]) + 1, np.flatnonzero(~gap[:-1] & gap[1:]) + 1
    text = np.cumsum(stream == NEXT_TEXT)[starts]
    hashes = Hashes.of(stream)
    _, first, word = np.unique(hashes.of_spans(starts, ends, 0), return_index=True, return_inverse=True)
    gram, n_grams = grams(hashes, starts[first], ends[first])
    shift = np.uint64(64 - (n_rows.bit_length() - 1))
    return Words(word, np.bincount(text, minlength=len(texts)), (gram >> shift).astype(np.int64), n_grams)


def letters(texts: Sequence[str]) -> np.ndarray:
    """All texts as lower-case UTF-8 bytes: one blank between words, a line feed between texts."""
    joined = "\n".join(text.replace("\n", " ") for text in texts).lower().replace("’", "'")
    plain = joined.encode("utf-8", "surrogatepass").translate(KEPT)
    stream = np.frombuffer(b" " + plain.replace(b"\n", b" \n ") + b" ", np.uint8)
    blank = stream == BLANK
    return stream[~(blank & np.roll(blank, 1)) | (np.arange(len(stream)) == 0)]


def grams(hashes: Hashes, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of each word's n-grams and, last, of the word itself; and how many there are of each word."""
    lengths = np.minimum(ends - starts, LONGEST) + 2  # with a blank at either end
    owners, found = [np.arange(len(starts))], [hashes.of_spans(starts, ends, 0)]
    for size in reversed(SIZES):
        count = np.maximum(lengths - size + 1, 0)
        owner = np.repeat(np.arange(len(starts)), count)
        start = starts[owner] - 1 + np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        owners.append(owner)
        found.append(hashes.of_spans(start, start + size, size))
    owner = np.concatenate(owners[::-1])
    order = np.argsort(owner, kind="stable")
    return np.concatenate(found[::-1])[order], np.bincount(owner, minlength=len(starts))


@dataclass(frozen=True)
class Hashes:
    """Prefix sums from which the hash of any span of a stream follows."""

    sums: np.ndarray
    """Entry i: the sum of (byte + 1) · BASE^j over all j < i."""
    back: np.ndarray
    """Entry i: BASE^-i."""

    @classmethod
    def of(cls, stream: np.ndarray) -> Hashes:
        powers, back = (powers_of(base, len(stream)) for base in (BASE, INVERSE))
        terms = (stream.astype(np.uint64) + np.uint64(1)) * powers[:-1]
        return cls(np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)]), back)

    def of_spans(self, starts: np.ndarray, ends: np.ndarray, kind: int) -> np.ndarray:
        """Hashes of the spans from `starts` up to `ends`; equal spans of two kinds hash apart."""
        spans = (self.sums[ends] - self.sums[starts]) * self.back[starts]
        return (spans + np.array([kind + 1], np.uint64) * SALT) * STIR  # the upper bits are the well-mixed ones


def powers_of(base: int, n: int) -> np.ndarray:
    """base^0 to base^n modulo 2⁶⁴."""
    return np.cumprod(np.r_[np.uint64(1), np.full(n, base, np.uint64)], dtype=np.uint64)
