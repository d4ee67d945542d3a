"""Hostile visitors: thousands of wrong requests against `python app.py`, then ordinary visits that must leave no trace.

python -m benchmarks.hostile
python -m benchmarks.hostile --requests 200 --visits 0

Starts the server on the shipped checkpoints, on a free port of this machine, and throws requests of many kinds at it,
drawn with a seed (benchmarks/hostile_requests.py). It passes if no answer is a 5xx, none is late, and none holds what a
planted file holds, an absolute path of this server, or a traceback; and if the page still writes a text afterwards.
Then visitors come one after the other, each with its own session: the page, its config, a heartbeat, one Generate,
and gone. Memory is what the server's process holds (PSS of Linux, so that shared pages are counted once): the median of
five looks after a warm-up of a third of the visits, and again at the end, each once all sessions are forgotten.
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated, Any

import httpx
import psutil
import tyro

from api.visitors import QUIET_SECONDS
from benchmarks.hostile_requests import HostileRequest, Source
from lens.terminal import run_function

ROOT = Path(__file__).parent.parent
SECRET = "planted-7d793037a0760186"
LATE_SECONDS = 30.0
AT_ONCE = 16
GIVEN = {"masked": True, "a": "demo-10", "b": "", "prompt": "The people next door are", "method": "iti", "strength": 8,
         "kind": "mass-mean", "probes": "builtin", "heads": "", "layers": "", "where": None, "gate": 0,
         "temperature": 1, "top_p": 0.9, "length": 8, "seed": 0}  # fmt: skip


@dataclass
class Findings:
    """What the server did."""

    seed: int
    statuses: dict[str, dict[str, int]] = field(default_factory=dict)
    """By kind of request: how often each status was answered; "cut" is a connection that ended without one."""
    faults: list[str] = field(default_factory=list)
    """Answers that must not be: 5xx, late, or with something in them that is nobody's business."""
    seconds: float = 0.0
    memory_mb: list[float] = field(default_factory=list)
    """After the warm-up, and after the visits."""

    @property
    def growth(self) -> float:
        """Of memory, as a share."""
        return self.memory_mb[1] / self.memory_mb[0] - 1 if self.memory_mb else 0.0

    @property
    def passed(self) -> bool:
        return not self.faults and self.growth <= 0.05


@contextmanager
def served(checkpoints: Path, say: Path) -> Iterator[tuple[psutil.Process, int]]:
    """`python app.py` on a free port, once it answers; its words go to a file."""
    with httpx.Client() as client, say.open("w") as words:
        port = _free_port()
        command = [sys.executable, "app.py", "--checkpoints", str(checkpoints), "--port", str(port), "--device", "cpu"]
        app = subprocess.Popen([*command, "--threads", "1"], cwd=ROOT, stdout=words, stderr=subprocess.STDOUT)
        try:
            for _ in range(600):
                with suppress(httpx.HTTPError):
                    if client.get(f"http://127.0.0.1:{port}/").status_code == 200:
                        break
                if app.poll() is not None:
                    raise RuntimeError(f"The app ended before it answered: {say.read_text()[-500:]}")
                time.sleep(0.2)
            yield psutil.Process(app.pid), port
        finally:
            app.terminate()
            app.wait(timeout=60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def attack(port: int, n_requests: int, found: Findings, secret: Path) -> None:
    """Send them all, a bounded number at a time."""
    functions = httpx.get(f"http://127.0.0.1:{port}/config").json()["dependencies"]
    numbered = [(each["id"], len(each["inputs"]), each["queue"] is not False) for each in functions]
    source = Source(Random(found.seed), f"127.0.0.1:{port}", secret, tuple(GIVEN.values()), numbered)
    drawn = iter([source.draw() for _ in range(n_requests)])

    async def worker() -> None:
        for request in drawn:
            answer = await _sent(port, request)
            if request.session and answer:
                target = f"/gradio_api/queue/data?session_hash={request.session}"
                answer += await _sent(port, HostileRequest(request.kind, source.write("GET", target))) or b""
            status = "late" if answer is None else answer[9:12].decode("latin-1") if answer[:5] == b"HTTP/" else "cut"
            counted = found.statuses.setdefault(request.kind, {})
            counted[status] = counted.get(status, 0) + 1
            if fault := _fault(request, answer, status, secret):
                found.faults.append(f"{fault}: {request.kind}: {request.wire[:300]!r} -> {(answer or b'')[:300]!r}")

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def _sent(port: int, request: HostileRequest) -> bytes | None:
    """The whole answer; None if it did not come in time."""
    answer = bytearray()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b""
    try:
        writer.write(request.wire)
        async with asyncio.timeout(0.3 if request.stays_open else LATE_SECONDS):
            while part := await reader.read(65_536):
                answer += part
    except TimeoutError:
        if not request.stays_open and not answer:
            return None
    except OSError:
        pass
    finally:
        writer.close()
    return bytes(answer)


def _fault(request: HostileRequest, answer: bytes | None, status: str, secret: Path) -> str:
    """What is wrong with an answer, in a word."""
    if answer is None:
        return "late"
    if status.startswith("5"):
        return "5xx"
    private = [SECRET.encode(), b"Traceback (most recent call last)", b"root:x:0", b"site-packages"]
    private += [str(folder).encode() for folder in (ROOT, secret.parent) if str(folder).encode() not in request.wire]
    return next((f"leak of {what!r}" for what in private if what in answer), "")


def visit(client: httpx.Client, session: str) -> None:
    """One visitor: the page, its config, one Generate, and gone."""
    assert client.get("/").status_code == 200
    functions = client.get("/config").json()["dependencies"]
    numbers = {function["api_name"]: function["id"] for function in functions}
    with client.stream("GET", f"/gradio_api/heartbeat/{session}"):
        asked: dict[str, Any] = {"data": [], "session_hash": session, "fn_index": numbers["ask"]}
        assert client.post("/gradio_api/run/predict", json=asked).status_code == 200
        run = {"data": [None, *GIVEN.values()], "session_hash": session, "fn_index": numbers["generate"]}
        assert client.post("/gradio_api/queue/join", json=run).status_code == 200
        with client.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as answers:
            last = ""
            for line in answers.iter_lines():
                last = line if "process_completed" in line else last
        assert '"success":true' in last, last[:300]


def visits(process: psutil.Process, client: httpx.Client, count: int) -> list[float]:
    """Memory after a warm-up and after the visits, in MB."""
    found = []
    for name, many in (("w", max(count // 3, 1)), ("v", count)):
        for number in range(many):
            visit(client, f"{name}{number}")
        time.sleep(QUIET_SECONDS + 5)
        looks = []
        for _ in range(5):
            looks.append(process.memory_full_info().pss / 1e6)
            time.sleep(0.5)
        found.append(statistics.median(looks))
    return found


def try_everything(n_requests: int, n_visits: int, seed: int, checkpoints: Path) -> Findings:
    """Attack, see that the page still works, and let visitors come."""
    found, begun = Findings(seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as aside:
        secret = Path(aside) / "secret.txt"
        secret.write_text(SECRET)
        with served(checkpoints, Path(aside) / "said.txt") as (process, port):
            asyncio.run(attack(port, n_requests, found, secret))
            found.seconds = time.perf_counter() - begun
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LATE_SECONDS) as client:
                visit(client, "afterwards")
                if n_visits:
                    found.memory_mb = visits(process, client, n_visits)
    return found


def main(
    requests: int = 10_000,
    visits: int = 200,
    seed: int = 0,
    checkpoints: Path = ROOT / "checkpoints",
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Attack, count and print.

    Args:
        requests: Hostile requests.
        visits: Ordinary visits afterwards, whose memory is measured.
        seed: Of the requests.
        checkpoints: Folder to serve.
        as_json: File for the numbers.
    """
    found = try_everything(requests, visits, seed, checkpoints)
    every = sum(map(Counter, found.statuses.values()), Counter())
    print(f"{sum(every.values()):,} requests in {found.seconds:.0f} s: {dict(sorted(every.items()))}")
    if found.memory_mb:
        print(
            f"Memory {found.memory_mb[0]:.0f} MB, after {visits} visits {found.memory_mb[1]:.0f}: {found.growth:+.1%}"
        )
    for fault in found.faults[:20]:
        print(fault)
    if as_json:
        as_json.write_text(json.dumps({**asdict(found), "passed": found.passed}, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if found.passed else f"{len(found.faults)} faults, memory {found.growth:+.1%}.")


if __name__ == "__main__":
    run_function(main, "What is printed above was found; nothing else is kept.", config=(tyro.conf.FlagCreatePairsOff,))
