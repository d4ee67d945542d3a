"""On what, and with which code, a run was trained."""

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from training.conduct import Conduct


def circumstances(conduct: Conduct, processes: int) -> dict[str, Any]:
    """Of one sitting: a run that was stopped and went on has several."""
    return {
        "hardware": _hardware(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "strategy": conduct.strategy,
        "git_revision": _git_revision(),
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


def _git_revision() -> str | None:
    asked = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        git = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return git.stdout.strip() or None
