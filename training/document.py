"""What a reader gives and what it counts: documents, how to read them, and a ledger in which no text goes missing."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from lens.line_reader import BadTexts, Strict
from lens.numeric import settle_numbers


class CorpusError(BadTexts):
    """A source that cannot be read to its end, with the line where it went wrong."""


@dataclass(frozen=True)
class Document:
    """A piece of text that stands for itself in training; also one post of a thread."""

    text: str
    toxicity: float | None = None
    """The corpus' own score in [0, 1]; of a thread the mean of its posts' scores, weighted by their lengths."""


@dataclass(frozen=True)
class Reading:
    """How a source is read."""

    document: Literal["thread", "post"] = "thread"
    """What one document of a forum is."""
    skip_damaged: int = 0
    """Damaged lines to go past in a source before it is given up."""
    forum: bool = False
    """Texts that come without posts are forum text, too: each is filtered as a post."""

    def __post_init__(self) -> None:
        settle_numbers(self)
        if self.skip_damaged < 0:
            raise ValueError(f"skip_damaged is a number of lines, 0 or more; got {self.skip_damaged}.")


FATES = ("kept", "without_text", "about_minors", "unscored", "below_min_toxicity", "excluded", "duplicates")
"""What becomes of a document: exactly one of these counts of a ledger."""


@dataclass
class Ledger:
    """What became of a source's text; the counts of `FATES` add up to `read`."""

    read: int = 0
    """Documents that the source holds."""
    kept: int = 0
    without_text: int = 0
    about_minors: int = 0
    """Nothing is left of them without the posts that speak sexually of minors."""
    unscored: int = 0
    """Dropped because a least toxicity was asked for and they have none."""
    below_min_toxicity: int = 0
    excluded: int = 0
    duplicates: int = 0
    posts: int = 0
    """Posts that the source holds, in documents of whatever fate."""
    posts_without_text: int = 0
    posts_about_minors: int = 0
    masked_emails: int = 0
    masked_phones: int = 0
    masked_ips: int = 0
    damaged: list[str] = field(default_factory=list)
    """One "file:line reason" for each damaged line that was gone past."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Damage(Strict):
    """Goes past as many damaged lines of one source as are tolerated, each of them listed in the ledger."""

    error = CorpusError
    tolerated: int
    ledger: Ledger
    lines: int = 0

    def report(self, where: Path, number: int, reason: str, n_lines: int = 1) -> None:
        """Of lines that begin at `number`: count them and return, or raise."""
        self.lines += n_lines
        if self.lines > self.tolerated:
            raise self.error(
                f"{where}:{number} {reason}. Mend it, or go past damaged lines: --skip-damaged {self.lines} would do "
                "as far as has been read."
            )
        self.ledger.damaged.append(f"{where.name}:{number} {reason}" + (f" ({n_lines} lines)" if n_lines > 1 else ""))
