"""The words of a text, so that case, spacing and punctuation do not count: what filters and exclusions compare."""

import re
import unicodedata

APOSTROPHES = "'`"
# Of bytes, because their tables work at the speed of memory: capitals and other letters are dealt with before.
SPACES = bytes(code if code >= 128 or chr(code).isalnum() else ord(" ") for code in range(256))
FOREIGN_APOSTROPHES = re.compile("[’‘´]")
FOREIGN_PUNCTUATION = re.compile(r"[^\w\x00-\x7f]+")


def words_of(text: str) -> list[str]:
    """Runs of letters and digits in lower case; apostrophes vanish, everything else is space."""
    text = text.casefold()
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).casefold()
        text = FOREIGN_PUNCTUATION.sub(" ", FOREIGN_APOSTROPHES.sub("", text))
    return text.encode().translate(SPACES, APOSTROPHES.encode()).decode().split()
