"""A file is the old one or the new one, whatever happens while it is written."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lens import write_atomically

OLD, NEW = b"old" * 1000, b"new" * 100_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "card.json").write_bytes(OLD)
    return tmp_path / "card.json"


def test_the_new_content_is_whole_and_nothing_else_is_left(path: Path) -> None:
    write_atomically(path, NEW)
    assert path.read_bytes() == NEW
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644, "readable by whoever could read it before"


def test_a_full_disk_leaves_the_old_content_and_no_rubbish(path: Path) -> None:
    """A limit on the size of files stands for the full disk: the system refuses the write half-way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(NEW) // 2, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as refused:
            write_atomically(path, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    assert refused.value.errno == errno.EFBIG
    assert path.read_bytes() == OLD
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_before_the_rename_leaves_the_old_content(path: Path, moment: str) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from lens.files import write_atomically\n"
        f"os.{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(Path(sys.argv[1]), b'new' * 100_000)"
    )
    root = Path(__file__).parent.parent
    ended = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, env={**os.environ}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert path.read_bytes() == OLD


def test_what_a_visitor_takes_along_is_kept_once_and_goes_with_the_process() -> None:
    """Another process hands out three contents under two names, one of them again and again."""
    script = (
        "from lens.files import to_download\n"
        "for content in (b'1', b'2', b'1', b'1'): print(to_download('one.csv', content))\n"
        "print(to_download('two.csv', b'3')); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        paths = [Path(process.stdout.readline().strip()) for _ in range(5)]
        assert [path.read_bytes() for path in paths] == [b"1", b"2", b"1", b"1", b"3"]
        assert len(set(paths)) == 3
        assert {path.parents[1] for path in paths} == {paths[0].parents[1]}
        process.communicate("\n")
    assert not paths[0].parents[1].exists()
