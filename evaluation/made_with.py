"""With which program, on what, a sweep's rows are made."""

from __future__ import annotations

import platform
from typing import Any

import torch
import transformers

from lens.checkpoint import git_revision
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
