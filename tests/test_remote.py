"""The client against a hostile server: no text lost, no key shown, the rate kept, nothing paid twice."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hostile import KEY, Hostile, hostile, share_of_e

from evaluation.cache import ScoreCache
from evaluation.event_loop import run_to_the_end
from evaluation.pace import Pace, seconds
from evaluation.remote import PATIENCE, TRIES, Remote, ScorerStopped
from evaluation.scorer import Cached
from evaluation.services import Perspective

TEXTS = [f"e{'x' * n} number {n}" for n in range(70)]
SCORES = [share_of_e(text) for text in TEXTS]
KINDS = ("openai", "perspective")


@pytest.fixture(scope="module")
def running() -> Iterator[Hostile]:
    with hostile() as server:
        yield server


@pytest.fixture
def server(running: Hostile) -> Hostile:
    return running.forget()


def asking(server: Hostile, kind: str, timeout: float = 5.0, per_second: float = 1000.0) -> Remote:
    return Remote(server.service(kind, per_second), KEY, timeout=timeout, first_wait=0.001)


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_gets_its_own_score_in_order(server: Hostile, kind: str) -> None:
    assert asking(server, kind)(TEXTS) == SCORES
    assert server.answered == dict.fromkeys(TEXTS, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scorer_works_where_an_event_loop_runs_already_as_in_a_notebook(server: Hostile, kind: str) -> None:
    async def cell() -> list[float | None]:
        return asking(server, kind)(TEXTS)

    assert asyncio.run(cell()) == SCORES
    assert server.answered == dict.fromkeys(TEXTS, 1)


def test_errors_reach_a_notebook_as_they_are(server: Hostile) -> None:
    async def cell() -> None:
        with pytest.raises(ScorerStopped, match="gave no score"):
            Remote(replace(server.service("openai"), url="http://127.0.0.1:9/"), KEY, first_wait=0.001)(TEXTS[:1])

    asyncio.run(cell())


def test_an_interrupt_in_a_notebook_ends_the_requests(server: Hostile) -> None:
    """Raised while the notebook's thread waits, as Ctrl-C is; the requests that are under way do not go on for long."""
    ended, main = threading.Event(), threading.main_thread().ident

    async def forever() -> None:
        try:
            threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT]).start()
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def cell() -> None:
        run_to_the_end(forever())

    start, loop = time.monotonic(), asyncio.new_event_loop()  # as notebooks have it; `asyncio.run` takes Ctrl-C itself
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores Ctrl-C
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(cell())
    finally:
        signal.signal(signal.SIGINT, before)
        loop.close()
    assert ended.is_set()
    assert time.monotonic() - start < 20


def test_openai_is_asked_as_its_types_say(server: Hostile) -> None:
    asking(server, "openai")(TEXTS)
    assert [len(texts) for texts in server.asked].count(32) == 2
    assert len(server.asked) == 3
    assert set(server.bodies[0]) == {"model", "input"}
    assert server.bodies[0]["model"] == "omni-moderation-2024-09-26"
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert server.queries[0] == {}


def test_perspective_is_asked_as_its_documents_say(server: Hostile) -> None:
    asking(server, "perspective")(TEXTS[:1])
    assert server.bodies == [
        {
            "comment": {"text": TEXTS[0], "type": "PLAIN_TEXT"},
            "languages": ["en"],
            "requestedAttributes": {"TOXICITY": {}},
            "doNotStore": True,
        }
    ]
    assert server.queries == [{"key": KEY}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "fault", ["500", "429", "503 after 0", "hang", "half", "short", "not json", "not a score", "302"]
)
def test_what_passes_costs_no_text(server: Hostile, kind: str, fault: str) -> None:
    server.faults = {"number 7": [fault] * 2, "number 33": [fault]}
    remote = asking(server, kind, timeout=0.5 if fault == "hang" else 5)
    assert remote(TEXTS) == SCORES
    assert not remote.missing
    assert fault == "hang" or max(server.answered.values()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_is_refused_is_missing_and_its_neighbours_are_not(server: Hostile, kind: str) -> None:
    server.faults = {"number 40": ["400", "…"]}
    remote = asking(server, kind)
    scores = remote(TEXTS)
    assert [i for i, score in enumerate(scores) if score is None] == [40]
    assert [score for score in scores if score is not None] == SCORES[:40] + SCORES[41:]
    assert remote.missing == {"comment too long": 1}


@pytest.mark.parametrize(
    ("fault", "kind_of_failure"),
    [("500", "error 500"), ("half", "connection lost"), ("not json", "unreadable answer"), ("hang", "timed out")],
)
def test_a_text_on_which_the_service_always_fails_is_missing_in_the_end(
    server: Hostile, fault: str, kind_of_failure: str
) -> None:
    server.faults = {"number 3": [fault, "…"]}
    remote = asking(server, "perspective", timeout=0.3 if fault == "hang" else 5)
    assert remote(TEXTS[:6]) == [*SCORES[:3], None, *SCORES[4:6]]
    assert remote.missing == {kind_of_failure: 1}
    assert server.asked.count([TEXTS[3]]) == TRIES


def test_a_service_that_answers_nothing_but_errors_is_left_alone(server: Hostile) -> None:
    server.faults = {"number": ["500", "…"]}
    with pytest.raises(ScorerStopped, match=r"gave no score: error 500\. What it scored so far is kept"):
        asking(server, "perspective")(TEXTS)
    assert len(server.asked) <= TRIES * (PATIENCE + 8)  # eight requests are under way together


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_that_refuses_every_text_is_left_alone(server: Hostile, kind: str) -> None:
    """A wrong request of ours, say: every text missing would look like a finished run."""
    server.faults = {"number": ["422", "…"]}
    with pytest.raises(ScorerStopped, match=rf"{kind} refused {PATIENCE} texts in a row: refused \(422\)\."):
        asking(server, kind)(TEXTS)
    assert sum(len(texts) == 1 for texts in server.asked) <= PATIENCE + 8


def test_refusals_that_are_not_in_a_row_stop_nothing(server: Hostile) -> None:
    server.faults = {f"number {n}": ["400", "…"] for n in (1, 3, 5)}
    remote = asking(server, "perspective")
    refused = {n for n in range(70) if str(n)[0] in "135"}
    assert len(refused) > PATIENCE
    assert {n for n, score in enumerate(remote(TEXTS)) if score is None} == refused
    assert remote.missing == {"comment too long": len(refused)}


def test_all_wait_as_long_as_the_service_says_though_nobody_asks_for_that_text_again(server: Hostile) -> None:
    server.faults = {"exx number 2": [*["503"] * (TRIES - 1), "503 after 1"]}
    many = [*TEXTS, *(f"one more, {n}" for n in range(300))]  # more than a busy machine asks before the last try
    scores = asking(server, "perspective", per_second=100)(many)
    assert [n for n, score in enumerate(scores) if score is None] == [2]
    last = max(i for i, texts in enumerate(server.asked) if texts == [TEXTS[2]])
    later = [time - server.times[last] for time in server.times[last + 1 :]]
    assert sum(gap > 0.9 for gap in later) >= len(later) - 7 > 0  # but for those that were under way


def test_all_wait_when_the_service_says_for_how_long(server: Hostile) -> None:
    server.faults = {"number 2": ["429 after 1"]}
    assert asking(server, "perspective", per_second=100)(TEXTS[:20]) == SCORES[:20]
    at = next(i for i, texts in enumerate(server.asked) if texts == [TEXTS[2]])
    later = [time - server.times[at] for time in server.times[at + 1 :]]
    assert sum(gap > 0.9 for gap in later) >= len(later) - 7  # but for those that were under way


def test_a_service_that_wants_us_gone_for_long_is_obeyed(server: Hostile) -> None:
    server.faults = {"number 2": ["429 after 3600"]}
    with pytest.raises(ScorerStopped, match="asks us to wait for 3,600 seconds"):
        asking(server, "perspective")(TEXTS)


def test_retry_after_is_a_number_of_seconds_or_a_date() -> None:
    now = datetime.now(UTC)
    assert seconds("7") == 7
    assert seconds(format_datetime(now + timedelta(seconds=90), usegmt=True)) == pytest.approx(90, abs=2)
    assert seconds(format_datetime(now - timedelta(days=1), usegmt=True)) == 0
    assert [seconds(one) for one in (None, "soon", "-3", "")] == [None] * 4


def test_any_two_turns_are_a_gap_apart_whoever_asks_and_whenever() -> None:
    """Ten visitors, a pause for all, and a second event loop: no burst where they meet."""
    turns, rng, gap = list[float](), random.Random(0), 0.02
    pace = Pace(1 / gap)

    async def visitor() -> None:
        for _ in range(5):
            await pace.turn()
            turns.append(time.monotonic())
            if rng.random() < 0.3:
                await asyncio.sleep(rng.random() * gap)

    async def all_of_them() -> None:
        pace.begin()
        asyncio.get_running_loop().call_later(10 * gap, pause)
        await asyncio.gather(*(visitor() for _ in range(10)))

    def pause() -> None:
        pace.pause(10 * gap)
        paused.append(time.monotonic())

    paused = list[float]()
    for _ in range(2):
        asyncio.run(all_of_them())
    assert len(turns) == 100
    for n in (1, 5, 50, 99):
        short = sum(later - earlier < 0.9 * n * gap for earlier, later in zip(turns, turns[n:], strict=False))
        assert short <= (2 if n == 1 else 0)  # a busy machine writes a time down late
    assert not any(begun < turn < begun + 10 * gap for begun in paused for turn in turns)


def test_the_server_never_sees_more_than_the_rate_though_requests_fail_and_calls_follow_each_other(
    server: Hostile,
) -> None:
    server.faults = {"number 1": ["500"] * 6, "number 2": ["half"] * 4}
    remote, rate = asking(server, "perspective", per_second=50), 50
    assert remote(TEXTS[:20]) + remote(TEXTS[20:30]) == SCORES[:30]
    times = server.times
    assert len(times) == 40
    for width in (20, 30, 39):
        windows = [later - earlier for earlier, later in zip(times, times[width:], strict=False)]
        assert min(windows) >= width / rate - 0.15  # a busy machine may hold a request up, by less than this


@pytest.mark.parametrize(
    "fault",
    ["400", "401", "422", "403", "404", "410", "429", "429 after 9999", "500", "hang", "half", "302", "bad key"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_key_is_in_no_error_no_log_and_no_picture_of_the_client(
    server: Hostile, kind: str, fault: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    server.faults = {"number": [fault, "…"]}
    remote = asking(server, kind, timeout=0.1 if fault == "hang" else 5)
    shown = []
    try:
        remote(TEXTS[:1])
    except ScorerStopped as error:
        while error:
            shown += [repr(error), *traceback.format_exception(error)]
            error = error.__context__  # also one that is not printed
    shown += [repr(remote), repr(remote.missing), str(remote.service), caplog.text, *capfd.readouterr()]
    assert server.asked
    assert not any(KEY in one for one in shown)


@pytest.mark.parametrize("fault", ["401", "403"])
def test_a_refused_key_stops_everything_and_names_the_variable(server: Hostile, fault: str) -> None:
    server.faults = {"number": [fault, "…"]}
    with pytest.raises(ScorerStopped, match=rf"openai refused the key in OPENAI_API_KEY \({fault}\)"):
        asking(server, "openai", per_second=20)(TEXTS)
    assert len(server.asked) <= 3


def test_googles_word_for_a_bad_key_stops_everything_too(server: Hostile) -> None:
    server.faults = {"number": ["bad key", "…"]}
    with pytest.raises(ScorerStopped, match=r"perspective refused the key in PERSPECTIVE_API_KEY \(400\)"):
        asking(server, "perspective")(TEXTS)


def test_a_redirect_is_not_followed_since_the_key_would_go_along(server: Hostile) -> None:
    server.faults = {"number": ["302", "…"]}
    remote = asking(server, "openai")
    assert remote(TEXTS[:1]) == [None]
    assert remote.missing == {"error 302": 1}
    assert len(server.asked) == TRIES


def test_nothing_is_paid_for_twice_when_the_quota_ends_half_way(server: Hostile, tmp_path: Path) -> None:
    server.faults = {"number 33": ["429", "…"]}
    path = tmp_path / "scores.sqlite"

    def scorer() -> Cached:
        remote = asking(server, "perspective")
        return Cached(remote, ScoreCache(path, remote.name, remote.version), remote.at_once)

    with pytest.raises(ScorerStopped, match="over its quota"):
        scorer()(TEXTS)
    paid = set(server.answered)
    assert len(paid) >= 32
    server.faults = {}
    assert scorer()(TEXTS) == SCORES
    assert set(server.answered) == set(TEXTS)
    assert sum(server.answered.values()) <= len(TEXTS) + 7  # at most those under way when it stopped


def test_what_was_answered_before_the_quota_ended_is_kept_though_the_call_was_one(
    server: Hostile, tmp_path: Path
) -> None:
    """Three requests go out together; the third is refused for good once the others have their answers."""
    server.faults = {"number 69": ["429 after 1", "429", "…"]}

    def scorer() -> Cached:
        remote = asking(server, "openai")
        return Cached(remote, ScoreCache(tmp_path / "scores.sqlite", remote.name, remote.version), remote.at_once)

    with pytest.raises(ScorerStopped, match="over its quota"):
        scorer()(TEXTS)
    assert set(server.answered) == set(TEXTS[:64])
    server.faults = {}
    assert scorer()(TEXTS) == SCORES
    assert server.answered == dict.fromkeys(TEXTS, 1)


def test_an_unreachable_service_stops_the_scorer() -> None:
    service = replace(Perspective(ends=None), url="http://127.0.0.1:9/", per_second=1000.0)
    with pytest.raises(ScorerStopped, match="no connection"):
        Remote(service, KEY, first_wait=0.001)(TEXTS)


def test_without_a_key_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERSPECTIVE_API_KEY", raising=False)
    for key in ("", "two\nlines", "café"):
        with pytest.raises(ScorerStopped, match="Put it into the environment variable PERSPECTIVE_API_KEY"):
            Remote(Perspective(ends=None), key)(TEXTS)


def test_after_its_end_perspective_is_a_sentence_and_its_kept_scores_stay(server: Hostile, tmp_path: Path) -> None:
    service = replace(server.service("perspective"), ends=date(2026, 12, 31))

    def scorer(today: date) -> Cached:
        return Cached(Remote(service, KEY, today=today), ScoreCache(tmp_path / "s", service.name, service.version))

    assert scorer(date(2026, 12, 31))(TEXTS[:3]) == SCORES[:3]
    late = scorer(date(2027, 1, 1))
    assert late(TEXTS[:3]) == SCORES[:3]
    with pytest.raises(
        ScorerStopped, match=r"perspective answers no longer; its last day is 31 December 2026\..*builtin.*agree"
    ):
        late(TEXTS[:4])
    server.faults = {"number": ["410", "…"]}
    with pytest.raises(ScorerStopped, match="perspective answers no longer"):
        scorer(date(2026, 12, 31))(TEXTS[:4])
