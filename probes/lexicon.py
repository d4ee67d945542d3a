"""A list of toxic words that can lie in the open: ours is stored as salted hashes."""

import gzip
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BUILTIN = Path(__file__).parent / "builtin" / "lexicon.txt"
WORD = re.compile(r"\w(?:[\w'’-]*\w)?")


def hashed(word: str) -> str:
    """A word as the lexicon knows it: without case and surrounding space, salted, 16 hex digits of SHA-256."""
    return hashlib.sha256(("hormesis:" + word.strip().lower()).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Lexicon:
    """Words to count and to mask; `word in lexicon` asks for a whole word."""

    name: str
    hashes: frozenset[str]

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and hashed(word) in self.hashes

    def __len__(self) -> int:
        return len(self.hashes)

    @classmethod
    def builtin(cls) -> "Lexicon":
        return cls.read(BUILTIN, name="builtin")

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
        """The lexicon of some words or hashes."""
        words = (line.strip() for line in lines)
        single = (word for word in words if word and not re.search(r"\s", word))
        return cls(name, frozenset(word if re.fullmatch("[0-9a-f]{16}", word) else hashed(word) for word in single))


def mask(text: str, lexicon: Lexicon) -> str:
    """The text with the lexicon's words as on screen: first letter, then stars."""

    def masked(found: re.Match[str]) -> str:
        word = found[0]
        return word[0] + "*" * (len(word) - 1) if word in lexicon else word

    return WORD.sub(masked, text)
