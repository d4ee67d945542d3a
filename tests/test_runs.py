"""A run that nobody waits for does not begin: another was asked for, Stop was pressed, or the page was closed."""

from __future__ import annotations

from steering.runs import REMEMBERED, Runs


def test_a_queued_run_of_a_closed_page_does_not_begin() -> None:
    runs = Runs()
    waiting, other = runs.ask("me"), runs.ask("you")
    runs.forget("me")
    assert runs.begin("me", waiting) is None
    assert runs.begin("me", waiting) is None  # and asking in vain does not bring the session back
    assert runs.begin("you", other) is not None


def test_a_page_that_comes_again_does_not_start_what_it_had_queued_before() -> None:
    runs = Runs()
    waiting = runs.ask("me")
    runs.forget("me")
    again = runs.ask("me")
    assert runs.begin("me", waiting) is None
    assert runs.begin("me", again) is not None


def test_closing_a_page_stops_what_runs() -> None:
    runs = Runs()
    sign = runs.begin("me", runs.ask("me"))
    assert sign is not None
    runs.forget("me")
    assert sign.is_set()
    runs.forget("me")  # twice is no error


def test_a_session_that_was_forgotten_for_others_does_not_begin_either() -> None:
    runs = Runs()
    waiting = runs.ask("me")
    for number in range(REMEMBERED):
        runs.ask(str(number))
    assert runs.begin("me", waiting) is None


def test_a_program_runs_without_asking() -> None:
    runs = Runs()
    sign = runs.begin("a program", 0)
    assert sign is not None
    assert not sign.is_set()
    runs.forget("a program")
    assert sign.is_set()
    assert runs.begin("a program", 0) is not None
