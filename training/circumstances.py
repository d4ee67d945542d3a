"""On what, and with which code, a run was trained."""

import platform
from pathlib import Path
from typing import Any

import torch

from lens.checkpoint import git_revision
from training.conduct import Conduct


def circumstances(conduct: Conduct, processes: int) -> dict[str, Any]:
    """Of one sitting: a run that was stopped and went on has several."""
    return {
        "hardware": _hardware(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "strategy": conduct.strategy,
        "git_revision": git_revision(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def _hardware() -> str:
    """The GPU's name, or the CPU's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
