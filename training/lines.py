"""The lines of files that may be packed: each decoded alone, so that damage is found on its own line."""

import contextlib
import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import zstandard

from training.document import CorpusError, Ledger

PACKED = {".gz", ".zst"}
ZSTD_WINDOW = 2**31  # the published /pol/ archive was packed with a long window
LONGEST_LINE = 2**28
UNREADABLE = (OSError, EOFError, zlib.error, zstandard.ZstdError, tarfile.TarError)


@dataclass
class Damage:
    """Goes past as many damaged lines of one source as are tolerated, each of them listed in the ledger."""

    tolerated: int
    ledger: Ledger
    lines: int = 0

    def report(self, where: Path, number: int, reason: str, n_lines: int = 1) -> None:
        """Of lines that begin at `number`: count them and return, or raise."""
        self.lines += n_lines
        if self.lines > self.tolerated:
            raise CorpusError(
                f"{where}:{number} {reason}. Mend it, or go past damaged lines: --skip-damaged {self.lines} would do "
                "as far as has been read."
            )
        self.ledger.damaged.append(f"{where.name}:{number} {reason}" + (f" ({n_lines} lines)" if n_lines > 1 else ""))


class Lines:
    """UTF-8 lines of an unpacked file, read once; `number` is that of the last one, from 1."""

    def __init__(self, file: BinaryIO, where: Path, damage: Damage) -> None:
        self.where, self.number, self._file, self._damage = where, 0, file, damage

    def __iter__(self) -> Iterator[str]:
        while line := self._read():
            try:
                yield line.decode("utf-8-sig" if self.number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                self.damaged(f"is no UTF-8: {error.reason} at byte {error.start}")

    def damaged(self, reason: str, begins: int | None = None) -> None:
        """Report the last line, or all from `begins` on."""
        first = self.number if begins is None else begins
        self._damage.report(self.where, first, reason, max(self.number - first + 1, 1))

    def _read(self) -> bytes:
        try:
            line = self._file.readline(LONGEST_LINE + 1)
        except UNREADABLE as error:
            raise CorpusError(
                f"{self.where}:{self.number + 1} cannot be read: {error}. The rest is damaged; fetch it again."
            ) from error
        self.number += bool(line)
        if len(line) > LONGEST_LINE:
            raise CorpusError(f"{self.where}:{self.number} is longer than {LONGEST_LINE:,} bytes: no line of text.")
        return line


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a file that may be packed."""
    if path.suffix in PACKED and not path.stat().st_size:
        raise CorpusError(f"{path}:1 cannot be read: an empty file is not a packed one. Fetch it again.")
    with contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(path.open("rb"))
        if path.suffix == ".gz":
            raw = stack.enter_context(gzip.GzipFile(fileobj=raw))
        elif path.suffix == ".zst":
            raw = _Frames(raw)
        yield io.BufferedReader(raw, 2**17)


class _Frames(io.RawIOBase):
    """What zstandard frames hold; the library's own reader takes a file cut short for one that ends there."""

    def __init__(self, packed: BinaryIO) -> None:
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


def members(file: BinaryIO, path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Files inside a tar stream, one after the other, each under the archive's path."""
    try:
        with tarfile.open(fileobj=file, mode="r|", tarinfo=_Header) as archive:
            while (member := archive.next()) is not None:
                if member.isfile() and (content := archive.extractfile(member)) is not None:
                    name = member.name.encode(errors="replace").decode()
                    yield Path(f"{path}/{name}"), content  # type: ignore[misc]
                archive.members.clear()  # type: ignore[attr-defined]  # it would remember every one
            while rest := archive.fileobj.read(2**20):  # type: ignore[union-attr]  # also for the packer's checksum
                if rest.strip(b"\0"):
                    raise OSError("something follows the end of the archive")
    except Exception as error:  # a damaged header makes tarfile raise errors of any kind
        raise CorpusError(f"{path}:1 cannot be read as a tar archive: {error}. Fetch it again.") from error


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged header behind the first member for the archive's end: text would be lost silently."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # two empty blocks, as an archive should end
            raise
        except tarfile.HeaderError as error:
            raise OSError(f"{error} at byte {archive.offset}") from error
