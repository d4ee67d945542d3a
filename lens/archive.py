"""Files inside a tar archive, read as a stream; a damaged archive is never taken for a shorter one."""

import tarfile
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from lens.line_reader import BadTexts


def members(
    file: BufferedIOBase, path: Path, error: type[BadTexts] = BadTexts
) -> Iterator[tuple[Path, BufferedIOBase]]:
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
    except Exception as cause:  # a damaged header makes tarfile raise errors of any kind
        raise error(f"{path}:1 cannot be read as a tar archive: {cause}. Fetch it again.") from cause


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
