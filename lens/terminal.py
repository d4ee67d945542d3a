"""What every command shares at a terminal: how it starts, what it says of its progress, and how it ends.

Exit status: 0 done; 1 refused or failed, with one sentence on standard error; 2 a command line that tyro does not
understand; 128 + n stopped by signal n, so 130 after Ctrl-C.

This module imports nothing heavy: it answers Ctrl-C while torch, transformers and gradio are imported.
"""

from __future__ import annotations

import codecs
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens.errors import is_for_people, sentence_of

APP = Path(__file__).resolve().parent.parent / "app.py"
PACKAGES = ("probes", "steering", "evaluation", "training", "benchmarks", "lens")
PATIENCE_S = 1
"""Seconds that other threads have to end after Ctrl-C; then the process ends without them."""
PLAIN = dict(zip("—–−‐’‘“”•·×→‖≥≤␣─━│┃╭╮╰╯┌┐└┘├┤", "----''\"\"**x>|><_--||++++++++++", strict=True)) | {"…": "..."}
"""How characters of our own output are shown where an encoding lacks them; any other one becomes a question mark."""


@dataclass(frozen=True)
class Command:
    """A function that can be called from a command line."""

    call: Callable[..., Any]
    if_stopped: str
    """What Ctrl-C leaves, and how to go on: the sentence behind "Stopped."."""


class Interrupted(KeyboardInterrupt):
    """The system asked the process to end (SIGTERM); the command ends as after Ctrl-C."""


def run_command(commands: Mapping[str, Command], prog: str, **options: Any) -> None:
    """Parse the command line, call the command that it names, and print what the command returns, if anything."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    with command_line(commands[word].if_stopped if word in commands else "Nothing was begun."):
        import tyro

        calls = {name: command.call for name, command in commands.items()}
        if (found := tyro.extras.subcommand_cli_from_dict(calls, prog=prog, **options)) is not None:
            print(found)


def run_function(function: Callable[..., Any], if_stopped: str, **options: Any) -> None:
    """The same for a program that is one function."""
    with command_line(if_stopped):
        import tyro

        tyro.cli(function, **options)


@contextmanager
def command_line(if_stopped: str) -> Iterator[None]:
    """Inside the `with`, Ctrl-C, a closed pipe and every error for people end the process in one sentence."""
    _open_streams()
    with _answering({signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _interrupt}):
        try:
            yield
            sys.stdout.flush()  # a disk that is full is found here
        except KeyboardInterrupt as stopped:
            _stop(f"Stopped. {if_stopped}", 128 + (signal.SIGTERM if type(stopped) is Interrupted else signal.SIGINT))
        except Exception as error:
            if not is_for_people(error):
                raise
            if not (isinstance(error, BrokenPipeError) and _is_unread()):  # else the reader has seen enough
                progress()
                sys.exit(sentence_of(error))
        finally:
            _silence_broken_streams()


def progress(words: object = "") -> None:
    """One line that is written over, where someone is watching; nothing clears it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{words}", end="", file=sys.stderr, flush=True)


def _stop(sentence: str, status: int) -> None:
    """Say what is left, and end although a thread may still compute."""
    with suppress(OSError):
        progress()
        print(sentence, file=sys.stderr, flush=True)
    if IS_COMMAND:
        at_last = threading.Timer(PATIENCE_S, os._exit, [status])
        at_last.daemon = True
        at_last.start()
    sys.exit(status)


@contextmanager
def _answering(handlers: Mapping[int, Any]) -> Iterator[None]:
    """Answer signals by `handlers` inside the `with`; a command, which ends behind it, then ends at the next one."""
    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in handlers} if mine else {}
    answered = [number for number in before if before[number] is not signal.SIG_IGN]  # as nohup and & ask for
    for number in answered:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number in answered:
            signal.signal(number, _end_at_once if IS_COMMAND else before[number])


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted


def _end_at_once(number: int, frame: object) -> None:
    os._exit(128 + number)


def _end_before_start(number: int, frame: object) -> None:
    """Libraries are being imported: nothing needs to be put away, and some of them would swallow an exception."""
    clear = b"\r\x1b[2K" if os.isatty(2) else b""
    with suppress(OSError):
        os.write(2, clear + b"Stopped before anything began. Give the same command again.\n")
    os._exit(128 + number)


def _open_streams() -> None:
    """Let no character fail to be printed, nor a stream that is closed (`>&-`)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="plain")


def _replace(error: UnicodeError) -> tuple[str, int]:
    """What is printed for characters that the encoding of a stream lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end


def _is_unread() -> bool:
    """Whether our output goes into a pipe that nobody reads any more."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # a stream without a number, as tests have it
            poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _silence_broken_streams() -> None:
    """Let Python's own flush at its end fail no more, which would complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_command() -> bool:
    """Whether this process was started as a command of ours: `python -m PACKAGE`, or `python app.py`."""
    place = len(sys.orig_argv) - len(sys.argv)
    if not 0 < place < len(sys.orig_argv):  # somebody else's program, which changed its words
        return False
    program = Path(sys.orig_argv[place])
    if sys.orig_argv[place - 1] == "-m":
        return str(program).split(".")[0] in PACKAGES
    with suppress(OSError):
        return program.name == APP.name and program.resolve() == APP
    return False


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        sys.exit("The folder that this command was started in has been deleted. Go to another one: cd ~")


codecs.register_error("plain", _replace)
IS_COMMAND = _is_command()
if IS_COMMAND:
    _check_working_folder()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end_before_start)
