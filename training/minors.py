"""A filter for sexual content about minors: always on for forum text, because no experiment needs such text.

A text is caught when a word for a minor and a sexual word stand close together. News and outrage about abuse are
caught, too: here a false alarm costs a post, and a miss costs more. The filter sees plain words alone; it knows no
slang that hides them, and nothing of what a text means.
"""

import re
from functools import lru_cache

from training.words import words_of

WINDOW_WORDS = 12
"""How close the two words must be."""
NEAR_WORDS = 3
"""The same for words that are sexual or mere emphasis, so that swearing near the word `kids` is not enough."""

MINOR = re.compile(
    r"child|children|childs|kid|kids|kiddos?|kiddies?|minors?|underaged?|toddlers?|infants?|babies|newborns?|tots?"
    r"|teens?|teenage[rd]?s?|preteens?|tweens?|adolescents?|juveniles?|schoolgirls?|schoolboys?|schoolkids?"
    r"|schoolchild(?:ren)?|lolis?|lolicon|shotas?|pa?edo\w*|kindergart\w+|preschool\w*|daycare"
    r"|(?:[1-9]|1[0-7])(?:yo|yos|yrs?|years?|yearolds?)"
)
SEXUAL = re.compile(
    r"sex|sexy|sexes|sexual\w*|sexting|sext|porn\w*|nudes?|nudity|naked|erotic\w*|rap(?:e|es|ed|ing|ists?)|molest\w*"
    r"|incest\w*|orgasm\w*|masturbat\w*|genital\w*|penis\w*|vagina\w*|intercourse|fetish\w*|horny|lust\w*|groomed"
    r"|groom(?:ers?|ing)|seduc\w+|prostitut\w*|deflower\w*|fondl\w+|grop(?:e|es|ed|ing)|cumm?ing|aroused?|arousal"
    r"|sodom\w+|virginity|bedded"
)
EMPHATIC = re.compile(r"f.ck\w*|d[i1]cks?|c[o0]cks?|p.ss(?:y|ies)|tits?|b[o0]{2}bs?|lewd\w*|cum|screw(?:ed|ing)?")
AGE = re.compile(r"[1-9]|1[0-7]")
PEOPLE = {"girl", "girls", "boy", "boys", "kid", "kids"}
PAIRS = {
    **dict.fromkeys(("little", "young", "small", "school"), PEOPLE),
    "under": {"age", "aged", *map(str, range(1, 19))},
    "age": {"yo", "y", "yr", "yrs", "year", "years"},
}
"""What makes a word for a minor of the word before it; "age" stands for a number up to 17."""


def about_minors(text: str) -> bool:
    """Whether a word for a minor stands within `WINDOW_WORDS` of a sexual one (`NEAR_WORDS` of an emphatic one)."""
    words = words_of(text)
    told = [(at, kind) for at, kind in enumerate(map(_kind, words)) if kind]
    minors = [at for at, kind in told if kind == "minor" or PAIRS.get(kind, set()).intersection(words[at + 1 : at + 2])]
    return bool(minors) and (
        _close(minors, [at for at, kind in told if kind == "sexual"], WINDOW_WORDS)
        or _close(minors, [at for at, kind in told if kind == "emphatic"], NEAR_WORDS)
    )


@lru_cache(maxsize=2**16)
def _kind(word: str) -> str:
    """What a word may be: "minor", "sexual", "emphatic", a key of `PAIRS`, or "" for all others."""
    for kind, words in {"minor": MINOR, "sexual": SEXUAL, "emphatic": EMPHATIC, "age": AGE}.items():
        if words.fullmatch(word):
            return kind
    return word if word in PAIRS else ""


def _close(some: list[int], others: list[int], n_words: int) -> bool:
    """Whether any two positions, one of each sorted list, differ by at most `n_words`."""
    a = b = 0
    while a < len(some) and b < len(others):
        if abs(some[a] - others[b]) <= n_words:
            return True
        if some[a] < others[b]:
            a += 1
        else:
            b += 1
    return False
