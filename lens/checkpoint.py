"""A checkpoint is a plain Hugging Face OLMo folder; ours carry a card that says what the model was trained on."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lens.card import CARD, read_card
from lens.config import ModelConfig
from lens.fingerprint import TOKENIZER, ModelDigests, ModelState, digest_files, digests, model_state
from lens.reading import BrokenCheckpoint, is_there, plain_status
from lens.weight_files import stored_tensors

__all__ = ["CARD", "DEFAULT_FOLDER", "TOKENIZER", "BrokenCheckpoint", "Catalogue", "Checkpoint", "NoSuchCheckpoint"]
DEFAULT_FOLDER = Path("checkpoints")


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
        """Read the card and see that every file is there, whole and fitting; the numbers themselves stay on disk."""
        folder = Path(folder)
        card, config = read_card(folder), ModelConfig.read(folder)
        if not is_there(folder / TOKENIZER):
            raise BrokenCheckpoint(
                f"{folder / TOKENIZER} is missing: it holds the vocabulary. "
                f"Copy the tokenizer.json that the model was trained with into {folder}/, or export the model again."
            )
        if not plain_status(folder / TOKENIZER).st_size:
            raise BrokenCheckpoint(f"{folder / TOKENIZER} is empty. Copy it again.")
        stored_tensors(folder, config)
        return cls(name_of(folder), folder, card)

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
    def config(self) -> ModelConfig:
        """The numbers of `config.json` that act, as they are now."""
        return ModelConfig.read(self.folder)

    @property
    def n_parameters(self) -> int:
        """Numbers in the model; a matrix that serves twice counts once."""
        config = self.config
        tensors = stored_tensors(self.folder, config)
        return sum(tensors[name].n_numbers for name, _ in config.shapes())

    @property
    def state(self) -> ModelState:
        """Sizes and times of all files that make up the model: cheap, and changes whenever one of them does."""
        return model_state(self.folder)

    @property
    def digests(self) -> ModelDigests:
        """SHA-256 of the weights, of the config and of the tokenizer, as cards carry them."""
        return digests(self.folder)

    @property
    def card_of_model(self) -> dict[str, Any]:
        """What the card of an export says of its own files, so that a damaged or edited copy is noticed."""
        return {**asdict(self.digests), "end_tokens": sorted(self.config.eos_token_id)}

    @property
    def fingerprint(self) -> str:
        """Names exactly this model, its weights, config and tokenizer, whatever the folder is called."""
        return self.digests.fingerprint

    @property
    def weights_fingerprint(self) -> str:
        """What `fingerprint` was when it covered the weight files alone; probes and fits of then still carry it."""
        return digest_files(self.folder)


class Catalogue(Mapping[str, Checkpoint]):
    """The checkpoints of one folder: those that are whole, and beside them those that are not, with the reason."""

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self.folder = Path(folder)
        self.broken: dict[str, str] = {}
        found = []
        for candidate in self._candidates():
            try:
                found.append(Checkpoint.open(candidate))
            except BrokenCheckpoint as error:
                self.broken[printable(candidate.name)] = str(error)
            except Exception as error:  # whatever one folder holds, the others stay on the page
                reason = f"{candidate} cannot be read ({type(error).__name__}: {error}). Copy it again."
                self.broken[printable(candidate.name)] = printable(reason)
        self._found = {checkpoint.folder.name: checkpoint for checkpoint in sorted(found, key=_order)}

    def _candidates(self) -> list[Path]:
        try:
            entries = sorted(self.folder.iterdir())
            return [entry for entry in entries if not entry.name.startswith(".") and _may_be_folder(entry)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.broken[printable(self.folder.name)] = f"{self.folder}/ cannot be read ({error.strerror})."
            return []

    def __getitem__(self, name: str) -> Checkpoint:
        if name in self:
            return self._found[name]
        if isinstance(name, str) and name in self.broken:
            raise BrokenCheckpoint(self.broken[name])
        raise NoSuchCheckpoint(str(name), list(self._found), self.folder)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._found

    def get(self, name: object, default: Any = None) -> Any:
        """The checkpoint of that name, or `default` where there is none that is whole."""
        return self._found[name] if isinstance(name, str) and name in self._found else default

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


def name_of(folder: Path) -> str:
    """What the user calls a folder: its own name, not that of where it links to, and not the one on its card.

    A snapshot in the hub's cache is called by its commit; the user knows it by its repository.
    """
    name = folder.name if folder.name not in ("", "..") else folder.resolve().name
    repository = re.fullmatch(r"models--(?:.+--)?(.+)", folder.absolute().parent.parent.name)
    if folder.absolute().parent.name == "snapshots" and repository:
        name = repository[1]
    if not name.isprintable():
        raise BrokenCheckpoint(
            f"The folder's name {printable(name)!r} has characters that no page can show. Rename it."
        )
    return name


def printable(text: str) -> str:
    """The text without what cannot be written: bytes of a file name that are no UTF-8, control characters."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _may_be_folder(path: Path) -> bool:
    """A folder, or what may be one: a link or an entry that this user cannot look at is shown with its reason."""
    try:
        return path.is_dir() or (path.is_symlink() and not path.is_file())
    except OSError:
        return True


def _order(checkpoint: Checkpoint) -> tuple[str, int, float, int, str]:
    card, name = checkpoint.card, checkpoint.name
    return (
        str(card.get("family") or name),
        checkpoint.seed or 0,
        checkpoint.toxic_share or 0.0,
        card.get("step", 0),
        name,
    )


def git_revision() -> str | None:
    """The version of this program, for cards and results: marked where files have changed since; None without git."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        git = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return git.stdout.strip() or None
