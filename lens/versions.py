"""What computed: versions of this program and of the libraries that make the numbers, for cards."""

from __future__ import annotations

from importlib.metadata import version

from lens.checkpoint import git_revision


def program_versions() -> dict[str, str | None]:
    """By name; None where this program's version is not known."""
    return {"hormesis": git_revision(), "torch": version("torch"), "transformers": version("transformers")}
