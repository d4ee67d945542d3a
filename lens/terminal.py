"""What a command says of its progress."""

import sys


def progress(words: object = "") -> None:
    """One line that is written over, where someone is watching; nothing clears it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{words}", end="", file=sys.stderr, flush=True)
