"""Files that are either the old ones or the new ones, never half of each."""

import atexit
import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path


class NotWritable(OSError):
    """A result has no place to go; the sentence names it."""


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write beside, flush to the disk, rename: whoever reads `path` finds the old content or the new one, whole."""
    content = data.encode() if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
    flush_folder(path.parent)


def check_folder(folder: Path, what: str | None = None) -> None:
    """Refuse a folder that cannot be written to, or made, before the work whose result goes there."""
    try:
        there = _nearest(Path(folder))
        if not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied, or a disk that can only be read")
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise NotWritable(f"{what or folder} cannot be written to: {error.strerror}. Choose another folder.") from error


def check_file(path: Path) -> None:
    """Refuse a file that cannot be written, or written anew, before the work whose result goes there."""
    if Path(path).is_dir():
        raise NotWritable(f"{path} is a folder. Give the name of the file to write.")
    check_folder(Path(path).parent)
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)  # a name may be too long


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    try:
        os.lstat(folder)
    except FileNotFoundError:
        return _nearest(folder.parent)
    return folder


def to_download(name: str, content: bytes) -> str:
    """The path of a file to hand to a visitor; the same content is the same file, and all go when the process ends."""
    path = downloads() / hashlib.sha256(content).hexdigest()[:16] / name
    if not path.exists():
        write_atomically(path, content)
    return str(path)


@cache
def downloads() -> Path:
    """This process's own folder."""
    folder = Path(tempfile.mkdtemp(prefix="hormesis-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def flush_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
