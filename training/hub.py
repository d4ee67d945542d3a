"""Data sets of the hub, streamed row by row; a folder that is laid out like one is read in the same way."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from training.document import CorpusError

PREFIX = "hub:"


@dataclass(frozen=True)
class Hub:
    """One split of a data set, written hub:NAME, hub:NAME:CONFIG or hub:NAME:CONFIG:SPLIT."""

    name: str
    config: str | None = None
    split: str = "train"

    @classmethod
    def parse(cls, text: str) -> "Hub":
        name, *rest = text.removeprefix(PREFIX).split(":")
        if not name or len(rest) > 2 or "" in rest[1:]:
            raise CorpusError(f"{text} names no data set. Write hub:NAME:CONFIG:SPLIT, as in hub:allenai/c4:en:train.")
        return cls(name, (rest[0] or None) if rest else None, rest[1] if len(rest) > 1 else "train")

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}:{self.config or ''}:{self.split}"

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row in order, read while it arrives."""
        from datasets import load_dataset

        number = 0
        try:
            for row in load_dataset(self.name, self.config, split=self.split, streaming=True):
                number += 1
                yield row
        except Exception as error:  # of the hub, the network, or any of the formats behind them
            raise self._lost(
                f"{self}:{number + 1} cannot be read" if number else f"{self} cannot be opened", error
            ) from error

    def digest(self) -> str:
        """SHA-256 of the names and versions of the data set's files."""
        from datasets import load_dataset_builder

        try:
            files = load_dataset_builder(self.name, self.config).config.data_files or {}
            versions = {str(split): [list(files[split]), files[split].origin_metadata] for split in files}
        except Exception as error:
            raise self._lost(f"{self} cannot be opened", error) from error
        return hashlib.sha256(repr(versions.get(self.split)).encode()).hexdigest()

    def _lost(self, what: str, error: Exception) -> CorpusError:
        return CorpusError(
            f"{what}: {type(error).__name__}: {str(error).rstrip('.')}. Check name, configuration, split and network, "
            "or give the files of the data set from a folder."
        )
