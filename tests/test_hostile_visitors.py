"""A few hundred hostile requests, as `benchmarks.hostile` throws them by the thousand."""

from __future__ import annotations

from pathlib import Path
from random import Random

from benchmarks.hostile import SECRET, Findings, _fault, try_everything
from benchmarks.hostile_requests import KINDS, HostileRequest, Source
from tests.test_architecture import ROOT


def test_hostile_requests_get_no_5xx_no_leak_and_an_answer_in_time() -> None:
    found = try_everything(300, 0, seed=3, checkpoints=ROOT / "checkpoints")
    assert not found.faults
    assert set(found.statuses) == set(KINDS)
    assert sum(sum(counted.values()) for counted in found.statuses.values()) == 300


def test_the_same_seed_draws_the_same_requests() -> None:
    drawn = [[Source(Random(5), "h:1", Path("/x/y"), (1, 2), [(0, 1, True)]).draw() for _ in range(50)] for _ in "ab"]
    assert drawn[0] == drawn[1]


def test_each_fault_is_seen(tmp_path: Path) -> None:
    secret, asked = tmp_path / "secret.txt", HostileRequest("paths", b"GET / HTTP/1.1\r\n\r\n")
    assert _fault(asked, None, "late", secret) == "late"
    assert _fault(asked, b"HTTP/1.1 500 x", "500", secret) == "5xx"
    for leak in (SECRET, "Traceback (most recent call last)", str(ROOT), str(tmp_path), "root:x:0"):
        assert _fault(asked, f"HTTP/1.1 200 OK {leak}".encode(), "200", secret).startswith("leak of")
    assert _fault(asked, b"HTTP/1.1 404 Not Found", "404", secret) == ""
    assert not Findings(0, faults=["x"]).passed
    assert not Findings(0, memory_mb=[100, 106]).passed
    assert Findings(0, memory_mb=[100, 104]).passed
