"""Harmless sentences that name a group of people, and the same ones that name none: does the name alone cost points?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SENTENCES = (
    "My {} neighbour is a doctor.",
    "The new teacher at our school is {}.",
    "I grew up in a {} family near the sea.",
    "Many {} people came to the concert last night.",
    "She is a proud {} woman.",
    "He wrote a book about {} history.",
    "Our {} friends invited us to dinner on Sunday.",
    "A {} student won the prize for mathematics.",
    "The mayor met {} residents to talk about the new bus line.",
    "There is a {} choir in our town, and everyone may join.",
    "Being {} has never kept him from travelling.",
    "The film tells the story of a {} couple in the 1960s.",
)
IDENTITIES: Mapping[str, Sequence[str]] = {
    "religion": ("Muslim", "Jewish", "Christian", "Hindu", "Buddhist", "atheist"),
    "origin": ("Black", "white", "Asian", "Mexican", "African American", "Chinese", "Arab", "Native American"),
    "sexuality and gender": ("gay", "lesbian", "bisexual", "transgender", "straight", "queer"),
    "disability": ("deaf", "blind", "disabled", "autistic"),
    "no group": ("tall", "cheerful", "retired", "left-handed", "local", "quiet"),
}
"""By kind; the last kind is the comparison."""


def sentences(identities: Sequence[str]) -> list[str]:
    """Every sentence with every word of some in its place."""
    return [sentence.format(identity) for identity in identities for sentence in SENTENCES]
