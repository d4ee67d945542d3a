"""What a visitor waits for: the page, a checkpoint, the first words."""

from __future__ import annotations

import contextlib
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from lens import open_lens
from steering import Plan, Row, Sampling, fit, stream

ROOT = Path(__file__).parent.parent


def waiting_seconds(folder: Path, prompt: str, strengths: Sequence[float]) -> dict[str, float]:
    """From the command to the page, from a folder to an open model, and from asking to the first step; medians."""
    lens = open_lens(str(folder), device="cpu", threads=1)
    iti = fit(Plan(), lens)
    rows = [Row(prompt, iti.at(sigmas)) for sigmas in strengths]
    first = [clocked(lambda: next(stream(lens, rows, Sampling()))) for _ in range(8)]
    opening = [clocked(lambda: open_lens(str(folder), device="cpu")) for _ in range(3)]
    return {
        "page_served": page_served(),
        "opening": statistics.median(opening),
        "first_token": statistics.median(first[1:]),
    }


def clocked(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def page_served() -> float:
    """From the command to the first answer of the page, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=ROOT, stdout=subprocess.DEVNULL) as app:
        try:
            while app.poll() is None:
                with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    assert answer.status == 200
                    return time.perf_counter() - start
                time.sleep(0.05)
        finally:
            app.terminate()
    raise RuntimeError("The app ended before it answered. Start it by hand to see why: python app.py")
