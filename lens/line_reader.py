"""The lines of files that may be packed: each decoded alone, so that damage is found on its own line."""

import contextlib
import gzip
import io
import sys
import tarfile
import zlib
from codecs import BOM_UTF8
from collections import deque
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import zstandard

STDIN = "standard input"
PACKED = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
"""The endings of packed files, and the bytes that each kind begins with."""
ZSTD_WINDOW = 2**31  # the published /pol/ archive was packed with a long window
LONGEST_LINE = 2**28
UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError, tarfile.TarError)


class BadTexts(ValueError):
    """A file of texts that cannot be used as it is, with the line where it went wrong."""


class Strict:
    """What becomes of a damaged line: it ends the reading."""

    error: type[BadTexts] = BadTexts

    def report(self, where: Path, number: int, reason: str, n_lines: int = 1) -> None:
        """Raise, or return where the reading is to go on behind `n_lines` lines from `number` on."""
        raise self.error(f"{where}:{number} {reason}.")


class Lines:
    """UTF-8 lines of an unpacked file, read once; `number` is that of the last one, from 1."""

    def __init__(self, file: BufferedIOBase, where: Path, damage: Strict) -> None:
        self.where, self.number, self._file, self._damage = where, 0, file, damage
        self._ahead = deque[bytes]()

    def __iter__(self) -> Iterator[str]:
        while line := self._read():
            try:
                yield line.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                self.damaged(f"is no UTF-8: {error.reason} at byte {error.start}. Save the file as UTF-8")

    def peek(self) -> str:
        """The first line that is not blank, which will be read again."""
        ahead = [self._read()]
        while ahead[-1] and not ahead[-1].removeprefix(BOM_UTF8).strip():
            ahead.append(self._read())
        self.number, self._ahead = 0, deque(ahead)
        return ahead[-1].decode("utf-8-sig", errors="replace")

    def damaged(self, reason: str, begins: int | None = None) -> None:
        """Report the last line, or all from `begins` on."""
        first = self.number if begins is None else begins
        self._damage.report(self.where, first, reason, max(self.number - first + 1, 1))

    def refused(self, reason: str, begins: int | None = None) -> BadTexts:
        """The error for what no reader goes past."""
        return self._damage.error(f"{self.where}:{begins or max(self.number, 1)} {reason}")

    def _read(self) -> bytes:
        try:
            line = self._ahead.popleft() if self._ahead else self._file.readline(LONGEST_LINE + 1)
        except UNREADABLE as error:
            number = self.number + 1
            raise self.refused(f"cannot be read: {error}. The rest is damaged; fetch it again.", number) from error
        self.number += bool(line)
        if len(line) > LONGEST_LINE:
            raise self.refused(f"is longer than {LONGEST_LINE:,} bytes: no line of text.")
        if self.number == 1 and is_utf_16(line):
            raise self.refused("is UTF-16. Save the file as UTF-8.")
        return line


def is_utf_16(line: bytes) -> bool:
    """Whether every other byte of a first line is zero, as no UTF-8 text has it; or whether its mark says so."""
    halves = line[::2], line[1::2]
    zeros = any(not any(half) and all(other) for half, other in (halves, halves[::-1]))
    return line.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(line) > 8 and zeros)


def kind_of(path: Path) -> str:
    """The ending that tells the format, whatever the file is packed in."""
    return next((suffix for suffix in map(str.lower, reversed(path.suffixes)) if suffix not in PACKED), "")


@contextlib.contextmanager
def opened(source: Path | str, error: type[BadTexts] = BadTexts) -> Iterator[BufferedIOBase]:
    """The bytes of a file that may be packed, or of standard input ("-")."""
    with contextlib.ExitStack() as stack:
        path, raw = Path(source), _standard_input() if source == "-" else None
        try:
            file: Any = raw or stack.enter_context(path.open("rb", buffering=2**17))
            begins = file.peek(4)
        except OSError as cause:
            raise error(f"{path}: {cause.strerror}.") from cause
        kind = path.suffix.lower()
        if kind in PACKED and not begins:
            raise error(f"{path}:1 cannot be read: an empty file is not a packed one. Fetch it again.")
        if kind not in PACKED:
            kind = next((kind for kind, magic in PACKED.items() if begins.startswith(magic)), "")
        if kind == ".gz":
            file = io.BufferedReader(stack.enter_context(gzip.GzipFile(fileobj=file)), 2**17)
        elif kind == ".zst":
            file = io.BufferedReader(_Frames(file), 2**17)
        yield file


def _standard_input() -> Any:
    """Standard input as it comes: a line can be read before the next one is written."""
    raw = sys.stdin.buffer
    return raw if hasattr(raw, "peek") else io.BufferedReader(raw)  # type: ignore[type-var]


class _Frames(io.RawIOBase):
    """What zstandard frames hold; the library's own reader takes a file cut short for one that ends there."""

    def __init__(self, packed: BufferedIOBase) -> None:
        self._packed = packed
        self._library = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)
        self._frame: Any = None
        self._behind, self._ready = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and (packed := self._behind or self._packed.read(2**13)):
            self._frame = self._frame or self._library.decompressobj()
            self._ready = memoryview(self._frame.decompress(packed))
            self._behind = self._frame.unused_data
            self._frame = None if self._frame.eof else self._frame
        if not self._ready and self._frame:
            raise EOFError("it ends in the middle of a frame")
        n_bytes = min(len(buffer), len(self._ready))
        buffer[:n_bytes], self._ready = self._ready[:n_bytes], self._ready[n_bytes:]
        return n_bytes
