"""A filter for sexual content about minors: always on for forum text, because no experiment needs such text.

A text is caught when a word for a minor and a sexual word stand close together. News and outrage about abuse are
caught, too: here a false alarm costs a post, and a miss costs more. The filter sees plain words alone; it knows no
slang that hides them, and nothing of what a text means.
"""

import re
from functools import lru_cache

WINDOW_WORDS = 12
"""How close the two words must be."""
NEAR_WORDS = 3
"""The same for words that are sexual or mere emphasis, so that swearing near the word `kids` is not enough."""

MINOR = re.compile(
    r"child|children|childs|kid|kids|kiddos?|kiddies?|minors?|under-?age[ds]?|toddlers?|infants?|babies|newborns?|tots?"
    r"|teens?|teenage[rd]?s?|pre-?teens?|tweens?|adolescents?|juveniles?|school-?(?:girl|boy|kid|child)\w*"
    r"|(?:little|young|small)(?:girl|boy)s?|lolis?|lolicon|shotas?|p(?:a)?edo\w*|kindergart\w+|preschool\w*"
    r"|daycare|(?:[1-9]|1[0-7])(?:yo|yos|yr|yrs)"
)
SEXUAL = re.compile(
    r"sex|sexy|sexes|sexual\w*|sexting|sext|porn\w*|nudes?|nudity|naked|erotic\w*|rap(?:e|es|ed|ing|ists?)|molest\w*"
    r"|incest\w*|orgasm\w*|masturbat\w*|genital\w*|penis\w*|vagina\w*|intercourse|fetish\w*|horny|lust\w*|groomed"
    r"|groom(?:ers?|ing)|seduc\w+|prostitut\w*|deflower\w*|fondl\w+|grop(?:e|es|ed|ing)|cumm?ing|aroused?|arousal|sodom\w+"
    r"|sex-?trafficking|virginity|bedded"
)
EMPHATIC = re.compile(
    r"f.ck\w*|d[i1]cks?|c[o0]cks?|p.ssy|p.ssies|tits?|b[o0]{2}bs?|lewds?|lewd\w*|cum|screw(?:ed|ing)?"
)
WORD = re.compile(r"\w+(?:-\w+)*")
YOUNG, PERSON = {"little", "young", "small", "underage"}, {"girl", "girls", "boy", "boys"}
YEARS, OLD = (
    re.compile(r"[1-9]|1[0-7]"),
    {"yo", "y", "yr", "yrs", "year", "years", "year-old", "year-olds", "years-old"},
)
FOLLOWING: dict[str, set[str]] = {"young": PERSON, "years": OLD, "sexual": set(), "emphatic": set()}
"""What makes a word for a minor of the word before it."""
AGED = re.compile(r"(?:[1-9]|1[0-7])-(?:years?-olds?|yo|y-o|yr-olds?)")


def about_minors(text: str) -> bool:
    """Whether a word for a minor stands within `WINDOW_WORDS` of a sexual one (`NEAR_WORDS` of an emphatic one)."""
    words = WORD.findall(text.casefold())
    told = [(at, kind) for at, kind in enumerate(map(_kind, words)) if kind]
    minors = [at for at, kind in told if kind == "minor" or FOLLOWING[kind].intersection(words[at + 1 : at + 2])]
    return bool(minors) and (
        _close(minors, [at for at, kind in told if kind == "sexual"], WINDOW_WORDS)
        or _close(minors, [at for at, kind in told if kind == "emphatic"], NEAR_WORDS)
    )


@lru_cache(maxsize=2**16)
def _kind(word: str) -> str:
    """What a word may be: "minor", "sexual", "emphatic"; "young" and "years" with what follows; "" for all others."""
    if MINOR.fullmatch(word) or AGED.fullmatch(word):
        return "minor"
    if SEXUAL.fullmatch(word):
        return "sexual"
    if EMPHATIC.fullmatch(word):
        return "emphatic"
    return "young" if word in YOUNG else "years" if YEARS.fullmatch(word) else ""


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
