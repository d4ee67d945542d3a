"""Every command starts and ends alike: one sentence and an exit status, whatever the terminal, the pipe or the disk."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

import app
import evaluation.__main__
import lens.__main__
import probes.__main__
import steering.__main__
import training.__main__
from lens.errors import is_for_people, sentence_of
from lens.terminal import Command, command_line, run_command

ROOT = Path(__file__).parent.parent
MAINS = [lens.__main__, probes.__main__, steering.__main__, evaluation.__main__, training.__main__]
VERBS = [(main, verb) for main in MAINS for verb in main.COMMANDS]
PLAN = ["-m", "training", "plan", "--recipe", "nano"]
"""A command that prints some kilobytes and opens nothing."""


def started(words: list[str], **options: object) -> subprocess.Popen[str]:
    """A command of ours in a process of its own, which hears Ctrl-C also where pytest runs in the background."""
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    given = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": heard, **options}
    return subprocess.Popen([sys.executable, *words], text=True, **given)  # type: ignore[call-overload]


def ended(words: list[str], **options: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    with started(words, **options) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.parametrize(
    "words",
    [["app.py"], ["-m", "probes", "fit"], ["-m", "training", "run"]],
    ids=" ".join,
)
def test_ctrl_c_is_answered_while_the_libraries_are_imported(words: list[str]) -> None:
    with started(["-X", "importtime", *words]) as process:
        assert process.stderr is not None
        while "| torch\n" not in (line := process.stderr.readline()) and "numpy" not in line:
            assert line, "ended before torch was imported"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "Stopped before anything began. Give the same command again."
    assert "Traceback" not in said


def test_a_program_of_somebody_else_keeps_its_own_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import signal, lens\nprint(signal.getsignal(signal.SIGINT).__name__)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert ended([str(tmp_path / "app.py"), "steering"], env=environment)[:2] == (0, "default_int_handler\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_probes_fit_says_what_a_stop_leaves(tiny_folder: Path, number: signal.Signals) -> None:
    words = ["-m", "probes", "fit", *[str(tiny_folder)] * 20, "--device", "cpu", "--threads", "1"]
    with started(["-u", *words]) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()  # the texts were read
        process.send_signal(number)
        said = process.stderr.read()
    assert process.returncode == 128 + number
    assert said == "Stopped. The probe sets above are saved beside their checkpoints; give the same command with " \
        "the other checkpoints.\n"  # fmt: skip


def test_whoever_reads_no_further_hears_no_complaint() -> None:
    for shut in ("stdout", "stderr"):
        with started(PLAN if shut == "stdout" else ["-m", "probes", "show", "nowhere"]) as process:
            getattr(process, shut).close()
            rest = process.stderr if shut == "stdout" else process.stdout
            assert rest is not None
            assert rest.read() == ""
        assert process.returncode == (0 if shut == "stdout" else 1)


@pytest.mark.parametrize("closed", ["<&- 2>&-", "<&- >&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    done = subprocess.run(
        f"{sys.executable} {' '.join(PLAN)} {closed}", shell=True, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_a_full_disk_is_said() -> None:
    with open("/dev/full", "w") as full:
        status, _, said = ended(PLAN, stdout=full)
    assert (status, said) == (1, "No space left on device. Free some space and start again.\n")


def test_a_deleted_working_folder_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    command = f"mkdir {gone} && cd {gone} && rmdir {gone} && {sys.executable} {ROOT}/app.py"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "The folder that this command was started in has been deleted. Go to another one: cd ~\n"


def terminal(monkeypatch: pytest.MonkeyPatch, encoding: str) -> io.TextIOWrapper:
    """A standard output that is not UTF-8."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def shown(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("main", "verb"), VERBS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("columns", ["10", "120"])
def test_every_help_is_shown_in_a_narrow_ascii_terminal(
    main, verb: str, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "argv", ["command", verb, "--help"])
    stream = terminal(monkeypatch, "ascii")
    with pytest.raises(SystemExit) as ending:
        main.main()
    assert ending.value.code == 0
    assert "--help" in shown(stream)


@pytest.mark.parametrize("columns", ["10", "120"])
def test_so_is_the_help_of_the_page(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    stream = terminal(monkeypatch, "ascii")
    with pytest.raises(SystemExit, match="0"), command_line("Nothing."):
        app.tyro.cli(app.Settings, args=["--help"])
    assert "Serve the Hormesis page." in shown(stream)


@pytest.mark.parametrize(("encoding", "expected"), [("ascii", "- x 'caf?' ? ..."), ("latin-1", "- × 'café' ? ...")])
def test_what_an_encoding_lacks_is_replaced(encoding: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch, encoding)
    with command_line("Nothing."):
        print("— × ‘café’ 日 …")
    assert shown(stream).strip() == expected


def command(error: BaseException) -> dict[str, Command]:
    def fail() -> None:
        raise error

    return {"one": Command(fail, "The one is kept."), "two": Command(fail, "The two is kept.")}


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("So it is."), "So it is."),
        (LookupError("It is not there."), "It is not there."),
        (FileNotFoundError(2, "No such file or directory", "here.txt"), "here.txt: No such file or directory."),
        (OSError(28, "No space left on device"), "No space left on device. Free some space and start again."),
        (OSError("A sentence of ours."), "A sentence of ours."),
        (MemoryError(), "There is not enough memory. Close other programs, ask for fewer texts at a time, or give "
         "--dtype bfloat16."),
        (ModuleNotFoundError("no", name="ray.util"), "The Python package ray is not installed. Install what "
         "requirements.txt names: make."),
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe."),
    ],
)  # fmt: skip
def test_an_error_for_people_ends_in_its_sentence(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "two"])
    with pytest.raises(SystemExit) as ending:
        run_command(command(error), "command")
    assert ending.value.code == sentence
    assert sentence_of(error) == sentence


@pytest.mark.parametrize(
    "error",
    [KeyError("name"), IndexError("3"), TypeError("no"), ModuleNotFoundError(name="lens.no"), RuntimeError("x")],
)
def test_a_bug_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "two"])
    assert not is_for_people(error)
    with pytest.raises(type(error)):
        run_command(command(error), "command")


def test_ctrl_c_says_what_the_command_leaves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["command", "two"])
    with pytest.raises(SystemExit) as ending:
        run_command(command(KeyboardInterrupt()), "command")
    assert ending.value.code == 130
    assert capsys.readouterr().err == "Stopped. The two is kept.\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_every_command_says_what_a_stop_leaves() -> None:
    for main in MAINS:
        for one in main.COMMANDS.values():
            assert one.if_stopped.endswith(".")
