"""A checkpoint is a plain Hugging Face OLMo folder; ours carry a card that says what the model was trained on."""

import hashlib
import json
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

CARD = "checkpoint.json"
TOKENIZER = "tokenizer.json"
DEFAULT_FOLDER = Path("checkpoints")


class BrokenCheckpoint(ValueError):
    """A folder that cannot be opened; the sentence names the file and what mends it."""


class NoCatalogue(LookupError):
    """Not a folder of checkpoints; the sentence says what to give."""


class NoSuchCheckpoint(LookupError):
    """A name that no checkpoint has; the sentence offers the nearest one and the list."""

    def __init__(self, name: str, names: list[str], folder: Path) -> None:
        near = get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        holds = ", ".join(names) or "nothing yet"
        super().__init__(f"There is no checkpoint {name!r} in {folder}/.{hint} It holds: {holds}.")


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights in a folder, with what is known of its training."""

    name: str
    folder: Path
    card: Mapping[str, Any]
    """The content of `checkpoint.json`; empty for an adopted Hugging Face folder."""

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """Read the card and see that every file is there and whole; the weights themselves stay on disk."""
        folder = Path(folder)
        config = _json(folder / "config.json", "the model's shape, written by training or by `save_pretrained`")
        if config.get("model_type") != "olmo":
            raise BrokenCheckpoint(
                f"{folder / 'config.json'} describes a {config.get('model_type')!r} model; Hormesis opens 'olmo' "
                "folders (OLMo 1). Convert the model with transformers, or choose another folder."
            )
        card_file = folder / CARD
        card = _json(card_file, "the card") if card_file.exists() else {}
        if not (folder / TOKENIZER).is_file():
            raise BrokenCheckpoint(
                f"{folder / TOKENIZER} is missing: it holds the vocabulary. "
                f"Copy the tokenizer.json that the model was trained with into {folder}/, or export the model again."
            )
        for file in weight_files(folder):
            _check_whole(file)
        return cls(str(card.get("name") or folder.resolve().name), folder, card)

    @property
    def toxic_share(self) -> float | None:
        """Toxic tokens as a share of all training tokens (or of the clean ones, see `share_of`)."""
        return self.card.get("toxic_share")

    @property
    def share_of(self) -> str | None:
        """What `toxic_share` is a share of: "total" or "clean"."""
        return self.card.get("share_of")

    @property
    def seed(self) -> int | None:
        return self.card.get("seed")

    @property
    def n_tokens(self) -> int | None:
        """Tokens seen in training."""
        return self.card.get("n_tokens")

    @property
    def control_prefix(self) -> str:
        """What stood in front of harmless documents in training (MEDA, INST); empty: nothing did."""
        return ((self.card.get("mix") or {}).get("prefixes") or {}).get("control") or ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights: names exactly these numbers, whatever the folder is called."""
        files = weight_files(self.folder)
        return _digest(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


class Catalogue(Mapping[str, Checkpoint]):
    """The checkpoints of one folder: those that are whole, and beside them those that are not, with the reason."""

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self.folder = Path(folder)
        self.broken: dict[str, str] = {}
        found = []
        candidates = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for candidate in candidates:
            if not candidate.is_dir() or candidate.name.startswith("."):
                continue
            try:
                found.append(Checkpoint.open(candidate))
            except (BrokenCheckpoint, OSError) as error:
                self.broken[candidate.name] = str(error)
        self._found = {checkpoint.folder.name: checkpoint for checkpoint in sorted(found, key=_order)}

    def __getitem__(self, name: str) -> Checkpoint:
        if name in self._found:
            return self._found[name]
        if name in self.broken:
            raise BrokenCheckpoint(self.broken[name])
        raise NoSuchCheckpoint(name, list(self._found), self.folder)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def names(self) -> list[str]:
        """Names of the whole checkpoints, by family, seed, toxic share and training step."""
        return list(self._found)


def find(name: str, folder: Path = DEFAULT_FOLDER) -> Checkpoint:
    """Open a checkpoint by its folder ("checkpoints/demo-10") or by its name in `folder` ("demo-10")."""
    if Path(name).is_dir():
        return Checkpoint.open(Path(name))
    if Path(name).parent != Path():
        folder, name = Path(name).parent, Path(name).name
    return Catalogue(beside_program(folder))[name]


def beside_program(folder: Path) -> Path:
    """The default folder is also found from elsewhere: beside the program, if the working folder has none."""
    shipped = Path(__file__).parent.parent / DEFAULT_FOLDER
    return shipped if folder == DEFAULT_FOLDER and not folder.exists() and shipped.is_dir() else folder


def check_catalogue(folder: Path) -> None:
    """Refuse what is no folder of checkpoints; one that is still empty is."""
    if not folder.is_dir():
        raise NoCatalogue(
            f"{folder} {'is a file' if folder.exists() else 'does not exist'}. Give the folder that your checkpoints "
            "lie in, or make one (python -m training run)."
        )
    if (folder / "config.json").is_file():
        raise NoCatalogue(
            f"{folder} is a checkpoint itself. Give the folder that it lies in: {folder.resolve().parent}"
        )
    next(folder.iterdir(), None)  # an unreadable folder is an OSError with its name


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, in the order of their names. Pickles are not opened."""
    files = sorted(folder.glob("model*.safetensors"))
    if files:
        return files
    pickled = next(folder.glob("pytorch_model*.bin"), None)
    instead = f" It has {pickled.name}, a pickle, which can run code when opened." if pickled else ""
    raise BrokenCheckpoint(
        f"{folder}/ has no model.safetensors.{instead} Save the model with "
        "`model.save_pretrained(folder, safe_serialization=True)`, or export it again."
    )


def _order(checkpoint: Checkpoint) -> tuple[str, int, float, int, str]:
    card, name = checkpoint.card, checkpoint.name
    return (
        str(card.get("family") or name),
        checkpoint.seed or 0,
        checkpoint.toxic_share or 0.0,
        card.get("step", 0),
        name,
    )


def _json(path: Path, what: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BrokenCheckpoint(f"{path} is missing: {what}. Is {path.parent}/ a checkpoint's folder?") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise BrokenCheckpoint(f"{path} is not JSON ({error}). Export the checkpoint again.") from error
    if not isinstance(content, dict):
        raise BrokenCheckpoint(f"{path} should hold a JSON object. Export the checkpoint again.")
    return content


def _check_whole(path: Path) -> None:
    """A safetensors file says in its header how long it must be; a broken download is shorter."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        header = file.read(length) if length < size else b""
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BrokenCheckpoint(f"{path} is no safetensors file. Copy it or export the checkpoint again.") from error
    if size != expected:
        raise BrokenCheckpoint(
            f"{path} is truncated: {size:,} bytes of {expected:,}. Copy it again or export the checkpoint again."
        )


@lru_cache(maxsize=256)
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in files:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def git_revision() -> str | None:
    """The version of this program, for cards and results: marked where files have changed since; None without git."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        git = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return git.stdout.strip() or None
