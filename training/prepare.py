"""Which text of a source becomes tokens: one value holds every choice, and a ledger counts what each one dropped."""

import hashlib
import ipaddress
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from lens.numeric import settle_numbers
from training.corpus import TEXT, Document, Ledger, Reading, Source, documents
from training.words import words_of

EMAIL, PHONE, IP = "|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||", "|||IP_ADDRESS|||"
PLACEHOLDERS = (EMAIL, PHONE, IP)
"""Tokens of OLMo's own vocabulary."""
LONG_CHARS = 20
"""Of a normalised text to exclude; a shorter one would be found in almost anything and must be the whole document."""
ANCHOR_WORDS = 3

# Each begins with a plain set of characters, so that text without them is passed at once, and looks back only then;
# no piece can begin inside a longer run, so that no text takes more than linear time.
EMAIL_ADDRESS = re.compile(r"[\w.+%-](?<![\w.+%-].)[\w.+%-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
IPV4 = re.compile(r"\d(?<![\w.].)\d{0,2}(?:\.\d{1,3}){3}(?!\w|\.\d)", re.DOTALL)
IPV6 = re.compile(r"[0-9A-Fa-f:](?<![\w:.].)[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){1,7}(?![\w:])", re.DOTALL)
NUMBERS = re.compile(r"[\d(+](?<![\w.+-].)[\d().+ -]{6,}", re.DOTALL)
PHONE_NUMBER = re.compile(
    r"(?<![\d.+-])(?:(?:\+?1[-. ]?)?(?:\([2-9]\d{2}\)[-. ]?|[2-9]\d{2}[-. ])[2-9]\d{2}[-. ]?\d{4}"  # North America
    r"|\+\d{1,3}(?:[-. ]?\(?\d{1,4}\)?){2,5})(?![\d-])"
)


@dataclass(frozen=True)
class Preparation:
    """Every choice that decides which text becomes tokens; recorded in the manifest."""

    document: Literal["thread", "post"] = "thread"
    """What one document of a forum is."""
    min_toxicity: float | None = None
    """Keep only forum documents whose own toxicity score (0 to 1) is at least this; those without a score go."""
    skip_damaged: int = 0
    """Damaged lines to go past in a source before it is given up; each is listed in the manifest."""
    deduplicate: bool = False
    """Keep each text once over all sources."""
    exclude: tuple[Path, ...] = ()
    """Files of texts (FILE or FILE#field) that no document may contain, such as probe sets and evaluation prompts."""
    mask_personal: bool = False
    """Put OLMo's placeholder tokens for e-mail addresses, phone numbers and IP addresses."""
    prefix: Literal["meda", "inst"] | None = None
    """Put a document's toxicity in front of it: as a number (meda) or as an instruction in words (inst)."""
    scores: Path | None = None
    """JSON lines of toxicity scores for documents that have none of their own."""

    def __post_init__(self) -> None:
        settle_numbers(self)
        if self.min_toxicity is not None and not 0 <= self.min_toxicity <= 1:
            raise ValueError(f"min_toxicity is a score from 0 to 1, so 0.5 and not 50; got {self.min_toxicity}.")
        for path in self.exclude:
            Source.parse(str(path))
        if self.scores is not None and not self.scores.is_file():
            raise ValueError(f"There is no file of scores {self.scores}.")

    @cached_property
    def exclusion(self) -> "Exclusion":
        return Exclusion.of(text for path in self.exclude for text in texts_of(Source.parse(str(path))))

    def describe(self) -> dict[str, Any]:
        """For the manifest, ready for JSON: files by name and digest, without their folders."""
        excluded = [Source.parse(str(path)) for path in self.exclude]
        return {
            "document": self.document,
            "min_toxicity": self.min_toxicity,
            "skip_damaged": self.skip_damaged,
            "deduplicate": self.deduplicate,
            "exclude": [{"file": str(source), "sha256": source.digest()} for source in excluded],
            "mask_personal": self.mask_personal,
            "prefix": self.prefix,
            "scores": self.scores and {"file": self.scores.name, "sha256": Source(self.scores).digest()},
        }


def prepared(
    source: Source, preparation: Preparation, forum: bool, seen: set[bytes], ledger: Ledger
) -> Iterator[Document]:
    """The documents of a source that are left, masked if asked; `seen` gathers digests of the texts kept so far.

    The filter for sexual content about minors is part of reading: always on for `forum` text and for forum formats.
    """
    least = preparation.min_toxicity if forum else None
    for document in documents(source, Reading(preparation.document, preparation.skip_damaged, forum), ledger):
        if least is not None and document.toxicity is None:
            ledger.unscored += 1
        elif least is not None and document.toxicity is not None and document.toxicity < least:
            ledger.below_min_toxicity += 1
        elif preparation.exclude and preparation.exclusion.hits(document.text):
            ledger.excluded += 1
        else:
            text = masked(document.text, ledger) if preparation.mask_personal else document.text
            if preparation.deduplicate:
                digest = fingerprint(text)
                if digest in seen:
                    ledger.duplicates += 1
                    continue
                seen.add(digest)
            ledger.kept += 1
            yield Document(text, document.toxicity)


def fingerprint(text: str) -> bytes:
    """What `seen` remembers of a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def texts_of(source: Source) -> Iterator[str]:
    """Texts to exclude: each document of a file; of plain text each line."""
    plain = source.hub is None and ".txt" in source.path.suffixes and source.fields == TEXT
    for document in documents(source):
        yield from document.text.splitlines() if plain else [document.text]


@dataclass(frozen=True)
class Exclusion:
    """Texts that no document may contain, found by a few words of each."""

    whole: frozenset[str]
    """Short texts, which only a whole document can be."""
    anchored: dict[int, dict[tuple[str, ...], list[str]]]
    """For each number of words: runs of so many words, and the texts in which that run is the rarest."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Exclusion":
        words = {" ".join(text): text for text in map(words_of, texts) if text}
        long = {text: words[text] for text in words if len(text) >= LONG_CHARS}
        common = Counter(run for text in long.values() for run in _runs(text, min(len(text), ANCHOR_WORDS)))
        anchored: dict[int, dict[tuple[str, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
        for joined, text in long.items():
            n_words = min(len(text), ANCHOR_WORDS)
            anchored[n_words][min(_runs(text, n_words), key=common.__getitem__)].append(joined)
        return cls(frozenset(words), {n_words: dict(runs) for n_words, runs in anchored.items()})

    def hits(self, text: str) -> bool:
        """Whether a document is or contains one of the texts."""
        words = words_of(text)
        joined = " ".join(words)
        within = f" {joined} "
        return joined in self.whole or any(
            f" {candidate} " in within
            for n_words, texts in self.anchored.items()
            for run in filter(texts.__contains__, _runs(words, n_words))
            for candidate in texts[run]
        )


def masked(text: str, ledger: Ledger) -> str:
    """The text with OLMo's placeholders for e-mail addresses, phone numbers and IP addresses, each counted."""
    if "@" in text:
        text, n_found = EMAIL_ADDRESS.subn(EMAIL, text)
        ledger.masked_emails += n_found
    for pattern in (IPV4, IPV6):
        text, n_found = _edited(pattern, lambda found: (IP, 1) if _is_address(found) else (found, 0), text)
        ledger.masked_ips += n_found
    text, n_found = _edited(NUMBERS, lambda found: PHONE_NUMBER.subn(PHONE, found), text)
    ledger.masked_phones += n_found
    return text


def _edited(pattern: re.Pattern[str], edit: Callable[[str], tuple[str, int]], text: str) -> tuple[str, int]:
    """The text with each match edited, and the sum of what the edits count."""
    total = 0

    def put(match: re.Match[str]) -> str:
        nonlocal total
        edited, n_found = edit(match[0])
        total += n_found
        return edited

    return pattern.sub(put, text), total


def _runs(words: list[str], n_words: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[begin:] for begin in range(n_words)), strict=False)


def _is_address(text: str) -> bool:
    """Whether it is an IP address; of version 6 one with at least three filled groups, and no name such as `a::b`."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.version == 4 or len([group for group in text.split(":") if group]) > 2
