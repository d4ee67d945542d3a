"""A list of toxic words that can lie in the open, and the mask that hides them: ours is stored as salted hashes."""

import gzip
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from string import ascii_lowercase, digits

FOLDER = Path(__file__).parent / "builtin"
BUILTIN = FOLDER / "lexicon.txt"
JOINTS = r"'’‘`.\-\u2010-\u2015"
RUN = re.compile(rf"[\w@$*!]+(?:[{JOINTS}]+[\w@$*!]+)*")
"""What may spell one word: letters and digits, signs that stand for letters, and what joins words."""
PART = re.compile(r"[^\W_]+(?:[@$*!]+[^\W_]+)*|[@$!][^\W_]+(?:[@$*!]+[^\W_]+)*")
LETTERS = re.compile(r"[^\W\d_]+")
FIRST, LAST = re.compile(rf"\A{LETTERS.pattern}"), re.compile(rf"{LETTERS.pattern}\Z")
UNSETTLED = re.compile(rf"[\w@$*!{JOINTS}]{{0,48}}\Z")
"""The word that a text ends in, or so much of a longer run as no listed word reaches beyond."""
SIGNS = [str.maketrans("013457@$!", f"o{one}eastasi") for one in "il"]
"""Digits and signs that are written for letters; a 1 is an i or an l."""
LEAST = 3
"""Letters of a listed word that is looked for inside a longer one, and of a piece."""
MOST = 20
"""Letters of the longest word that is looked for inside a longer one."""
MOST_STARS = 2
"""Letters of a word that may have been replaced by stars and still be guessed."""


def hashed(word: str) -> str:
    """A word as the lexicon knows it: without case and surrounding space, salted, 16 hex digits of SHA-256."""
    return hashlib.sha256(("hormesis:" + word.strip().lower()).encode(errors="replace")).hexdigest()[:16]


@dataclass(frozen=True)
class Lexicon:
    """Words to count and to mask; `word in lexicon` asks for a whole word."""

    name: str
    hashes: frozenset[str]
    pieces: frozenset[str] = frozenset()
    """Beginnings and ends of its words that are no words themselves."""

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and hashed(word) in self.hashes

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    @cache
    def builtin(cls) -> "Lexicon":
        return cls("builtin", read_hashes(BUILTIN), read_hashes(FOLDER / "pieces.txt"))

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> "Lexicon":
        """A file (also .gz) with a word or a hash on each line; phrases are left out, for no token is one."""
        if not path.is_file():
            raise FileNotFoundError(f"There is no lexicon {path}. Give a text file with one word per line.")
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            lexicon = cls.of(lines, name or path.name.split(".")[0])
        if not len(lexicon):
            raise ValueError(f"{path} holds no words. A lexicon has one word per line.")
        return lexicon

    @classmethod
    def of(cls, lines: Iterable[str], name: str = "words") -> "Lexicon":
        """The lexicon of some words or hashes; the pieces of a word are not known from its hash."""
        given = (line.strip() for line in lines)
        single = [word for word in given if word and not re.search(r"\s", word)]
        words = [word for word in single if not re.fullmatch("[0-9a-f]{16}", word)]
        hashes = frozenset({*single} - {*words} | {hashed(word) for word in words})
        pieces = frozenset(hashed(piece) for word in words for piece in pieces_of(word))
        return cls(name, hashes, pieces)


def read_hashes(path: Path) -> frozenset[str]:
    return frozenset(path.read_text(encoding="utf-8").split())


@cache
def innocent() -> frozenset[str]:
    """Ordinary words that hold a word of the built-in lexicon by chance, as hashes."""
    return read_hashes(FOLDER / "innocent.txt")


def pieces_of(word: str) -> set[str]:
    """Its beginnings and ends, as abc- and -xyz; ends of more than half, for shorter ones end many other words too."""
    cuts = range(LEAST, len(word))
    return {f"{word[:cut]}-" for cut in cuts} | {f"-{word[-cut:]}" for cut in cuts if 2 * cut > len(word)}


def mask(text: str, lexicon: Lexicon) -> str:
    """The text with the lexicon's words as on screen: first letter, then stars; as long as before.

    Plurals, joined words and words with signs for letters count as well. So do pieces at either end of the text, for
    it may have been cut there: a token, or an answer that stops at its last token.
    """

    def hidden(found: re.Match[str]) -> str:
        run = _masked_run(found[0], lexicon)
        if found.start() == 0 and (end := FIRST.match(run)) and hashed(f"-{end[0]}") in lexicon.pieces:
            run = _starred(end[0]) + run[end.end() :]
        if found.end() == len(text) and (cut := LAST.search(run)) and hashed(f"{cut[0]}-") in lexicon.pieces:
            run = run[: cut.start()] + _starred(cut[0])
        return run

    return RUN.sub(hidden, text)


def settled(text: str, start: int = 0) -> str:
    """A text that still grows, without the word it ends in, which the next token may turn into another one.

    What lies before `start` is not touched.
    """
    return text[:start] + UNSETTLED.sub("", text[start:])


def _masked_run(run: str, lexicon: Lexicon) -> str:
    """A run is hidden whole where it is listed as it stands or without its joints; otherwise part by part."""
    if run in lexicon or _is_listed(re.sub(rf"[_{JOINTS}]", "", run), lexicon):
        return _starred(run)
    return PART.sub(lambda found: _masked_part(found[0], lexicon), run)


def _masked_part(part: str, lexicon: Lexicon) -> str:
    if any(_holds_listed(word, lexicon) for word in _unsigned(part)):
        return _starred(part)
    if any(_is_listed(word, lexicon) for word in _filled(part)):
        return _starred(part)
    return LETTERS.sub(lambda found: _starred(found[0]) if _holds_listed(found[0], lexicon) else found[0], part)


def _starred(word: str) -> str:
    """The first letter, and stars for all that follows."""
    return word[0] + "*" * (len(word) - 1)


def _is_listed(word: str, lexicon: Lexicon) -> bool:
    """Whether this is a listed word or its plural."""
    return word in lexicon or (word.lower().endswith("s") and word[:-1] in lexicon and hashed(word) not in innocent())


def _holds_listed(word: str, lexicon: Lexicon) -> bool:
    """Whether a listed word stands in these letters, unless an innocent word that holds it explains why."""
    if word in lexicon:
        return True
    found = _places(word.lower(), lexicon.hashes)
    if not found:
        return False
    reasons = _places(word.lower(), innocent())
    return not all(any(a <= start and end <= b for a, b in reasons) for start, end in found)


def _places(letters: str, hashes: frozenset[str]) -> list[tuple[int, int]]:
    """Where words of a list begin and end in a longer one; the shortest at its ends alone, where chance has fewer."""
    starts = range(len(letters) - LEAST + 1)
    found = [(at, at + length) for at in starts for length in _lengths(letters[at : at + MOST], hashes)]
    return [(a, b) for a, b in found if b - a > LEAST or a == 0 or b == len(letters)]


@lru_cache(maxsize=65536)
def _lengths(letters: str, hashes: frozenset[str]) -> tuple[int, ...]:
    """How long the words of a list are that these letters begin with."""
    return tuple(n for n in range(LEAST, len(letters) + 1) if hashed(letters[:n]) in hashes)


def _unsigned(part: str) -> Iterator[str]:
    """The words that a part spells once its digits and signs are read as letters."""
    n_letters = sum(sign.isalpha() for sign in part)
    for spelt in {part.lower(), part.lower().strip(digits)}:
        if not spelt.isalpha() and 2 * n_letters >= len(spelt):
            yield from (word for signs in SIGNS if (word := spelt.translate(signs)).isalpha())


def _filled(part: str) -> Iterator[str]:
    """The words that a part may be once letters stand where it has stars."""
    stars = part.count("*")
    if 0 < stars <= MOST_STARS <= len(part) - stars:
        pattern = part.replace("*", "{}")
        yield from (pattern.format(*letters) for letters in product(ascii_lowercase, repeat=stars))
