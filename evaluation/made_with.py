"""With which program, on what, a sweep's rows are made."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
import transformers

from lens.opening import resolve_device


def made_with(device: str, threads: int | None, ray: str | None = None) -> dict[str, Any]:
    """As `sweep.json` keeps it; Ray's workers choose their devices themselves, so that only what was asked is known."""
    return {
        "git_revision": git_revision(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "device": device if ray else str(resolve_device(device)),
        "threads": threads or torch.get_num_threads(),
        "ray": ray,
    }


def git_revision() -> str | None:
    """The program's, marked where files have changed since; None without git."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        git = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return git.stdout.strip() or None
