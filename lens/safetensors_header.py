"""The header of a safetensors file: which tensors it holds, where and in what format, before any number is read."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lens.reading import BrokenCheckpoint, parse_json, plain_status, shorten

LARGEST_HEADER = 32_000_000
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Number formats that weights may have, and their bytes."""
FileState = tuple[str, int, int, int, int]
"""Path, size, times of change of content and of status, and inode: a file with other content differs in one of them."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies, and in what shape and format."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    """First byte, counted from the beginning of the file."""
    end: int

    @property
    def n_numbers(self) -> int:
        return math.prod(self.shape)


def file_state(path: Path) -> FileState:
    """What tells a file from what lay there before, without reading it."""
    try:
        status = plain_status(path)
    except FileNotFoundError:
        raise BrokenCheckpoint(f"{path} is missing. Copy the folder or export the checkpoint again.") from None
    return (str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@lru_cache(maxsize=512)
def read_header(state: FileState) -> tuple[StoredTensor, ...]:
    """What a safetensors file says it holds; its own library would map the whole file to tell."""
    path, size = Path(state[0]), state[1]
    no_file = f"{path} is no safetensors file. Copy it or export the checkpoint again."
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if not length < min(size, LARGEST_HEADER):
            raise BrokenCheckpoint(no_file)
        try:
            content = parse_json(file.read(length))
            entries = {name: entry for name, entry in content.items() if name != "__metadata__"}
            spans = {name: tuple(map(int, entry["data_offsets"])) for name, entry in entries.items()}
            end = max((span[1] for span in spans.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise BrokenCheckpoint(no_file) from error
    start = 8 + length
    if size != start + end:
        raise BrokenCheckpoint(
            f"{path} is truncated: {size:,} bytes of {start + end:,}. Copy it again or export the checkpoint again."
            if size < start + end
            else f"{path} has {size - start - end:,} bytes too many. Copy it again or export the checkpoint again."
        )
    tensors = tuple(_stored(path, name, entry, start) for name, entry in entries.items())
    _check_gapless(path, tensors, start)
    return tensors


def _stored(path: Path, name: str, entry: Any, start: int) -> StoredTensor:
    dtype, shape, span = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in [*shape, *span])
    if not whole or len(span) != 2:
        raise BrokenCheckpoint(f"{path} is no safetensors file: its header has a wrong entry for {shorten(name)}.")
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise BrokenCheckpoint(
            f"{path}: {shorten(name)} has the number format {shorten(dtype)}; expected {', '.join(BYTES)}. "
            "Save the model in bfloat16 or float32."
        )
    if span[1] - span[0] != math.prod(shape) * BYTES[dtype]:
        raise BrokenCheckpoint(
            f"{path} is damaged: the bytes of {shorten(name)} do not fit its shape. Copy it or export it again."
        )
    return StoredTensor(name, path, dtype, tuple(shape), start + span[0], start + span[1])


def _check_gapless(path: Path, tensors: tuple[StoredTensor, ...], start: int) -> None:
    """One tensor behind the other: none shares bytes with another, and nothing hides between them."""
    for tensor in sorted(tensors, key=lambda one: (one.begin, one.end)):
        if tensor.begin != start:
            raise BrokenCheckpoint(f"{path} is damaged: its tensors overlap or leave gaps. Copy it or export it again.")
        start = tensor.end
