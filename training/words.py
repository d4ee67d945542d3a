"""The words of a text, so that case, spacing and punctuation do not count: what filters and exclusions compare."""

import re
import unicodedata

APOSTROPHES = "'`"
FOREIGN_APOSTROPHES = "’‘´"
FOREIGN_PUNCTUATION = re.compile(r"[^\x00-\x7f\w]+")
SPACES = bytes(code if code >= 128 or chr(code).isalnum() else ord(" ") for code in range(256))
"""A table of bytes works at the speed of memory; it leaves alone what UTF-8 makes of other letters."""


def words_of(text: str) -> list[str]:
    """Runs of letters and digits in lower case; apostrophes vanish, everything else is space."""
    if not text.isascii():
        for apostrophe in FOREIGN_APOSTROPHES:
            text = text.replace(apostrophe, "")
        text = FOREIGN_PUNCTUATION.sub(" ", unicodedata.normalize("NFKC", text))
    return text.casefold().encode().translate(SPACES, APOSTROPHES.encode()).decode().split()
