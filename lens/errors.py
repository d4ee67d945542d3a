"""Which errors were written for people, and the sentence of each; everything else is a bug and keeps its traceback."""

from __future__ import annotations

import errno

PACKAGES = ("lens", "probes", "steering", "evaluation", "training", "api")
OUT_OF_MEMORY = (
    "There is not enough memory. Close other programs, ask for fewer texts at a time, or give --dtype bfloat16."
)
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
WITHOUT = {"olmo": "Training needs ai2-olmo, which needs numpy 1: use Python 3.11 or 3.12 (make PYTHON=python3.12)."}
"""What to do where a library is missing that is not installed everywhere."""


def is_for_people(error: BaseException) -> bool:
    """Whether the message is a sentence: our own classes, and the built-in classes that we raise."""
    if isinstance(error, ModuleNotFoundError):
        return (error.name or "").split(".")[0] not in PACKAGES
    if isinstance(error, KeyError | IndexError | UnicodeEncodeError):
        return False
    plain = isinstance(error, ValueError | LookupError | OSError | MemoryError)
    return plain or _is_out_of_memory(error) or type(error).__module__.split(".")[0] in PACKAGES


def sentence_of(error: BaseException) -> str:
    """What happened, and where it is known what to do next."""
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return OUT_OF_MEMORY
    if isinstance(error, ModuleNotFoundError):
        name = (error.name or "").split(".")[0]
        missing = f"The Python package {name} is not installed. Install what requirements.txt names: make."
        return WITHOUT.get(name, missing)
    if isinstance(error, UnicodeDecodeError):
        return f"A file is not a text in UTF-8: {error}. Save it as UTF-8."
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}.{' Free some space and start again.' * (error.errno in NO_SPACE)}"
    return str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    """Of torch, which is not imported here: it takes seconds."""
    return type(error).__name__ == "OutOfMemoryError"
