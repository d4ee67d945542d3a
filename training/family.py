"""A family before it is trained: its texts tokenised once, each member's mix in a folder of its own."""

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lens.files import check_folder, write_atomically
from lens.numeric import settle_numbers
from lens.own_output import has_keys, is_free
from training import mix
from training.corpus import Source
from training.prepare import Preparation
from training.recipe import Precision, Recipe
from training.run import Run, RunChanged, is_whole, step_folder
from training.tokenizer import official_tokenizer, special_ids, train_tokenizer
from training.tokens import Progress, TokenFile, tokenize

Say = Callable[[str], None]


@dataclass(frozen=True)
class Family:
    """Checkpoints that differ by their toxic share (and seed) alone."""

    name: str
    recipe: Recipe
    clean: tuple[Source, ...]
    toxic: tuple[Source, ...]
    shares: tuple[float, ...]
    seeds: tuple[int, ...]
    mix: mix.Mix
    """Of every member, but for its share and seed."""
    out: Path
    work: Path
    """Token files, orders and unfinished runs live in `work`/`name`."""
    precision: Precision = "fp32"
    compiled: bool = False
    held_out: Path | None = None
    """A text that may be shipped; each card gives the loss on it, so that anybody can recompute it."""
    preparation: Preparation = field(default_factory=Preparation)

    def __post_init__(self) -> None:
        """What cannot be is said before hours of tokenising, not behind them."""
        settle_numbers(self)
        if Path(self.name).name != self.name:
            raise ValueError(f"A family's name is a folder in {self.work} and no path; got {self.name}.")
        for folder in (self.out, self.work):
            if folder.is_file():
                raise ValueError(f"{folder} is a file; --out and --work are folders.")
            check_folder(folder)
        if min(self.seeds, default=0) < 0:
            raise ValueError(f"A seed is 0 or more; got {min(self.seeds)}.")
        names = [member.name for member in self.members() if member.mix]  # a mix refuses what is no share
        if twice := [name for name, n in Counter(names).items() if n > 1]:
            raise ValueError(f"{', '.join(twice)}: asked for twice; shares are told apart to a tenth of a percent.")
        if not names:
            raise ValueError("A family needs at least one share and one seed, such as --shares 0 .10 --seeds 0.")
        self.recipe.n_steps(self.mix.clean_tokens // self.recipe.context)  # refuses less than one step

    @property
    def folder(self) -> Path:
        return self.work / self.name

    @property
    def settings(self) -> dict[str, Any]:
        """What all members share, ready for JSON: recipe, amounts, preparation, precision."""
        recipe = asdict(self.recipe)
        shared = {"recipe": recipe.pop("name")} | recipe | asdict(self.mix) | self.preparation.describe()
        del shared["toxic_share"], shared["seed"]
        return shared | {"precision": self.precision, "compiled": self.compiled}

    @property
    def texts(self) -> dict[str, str]:
        """Its sources in their order, each with its digest."""
        kinds = {"clean": self.clean, "toxic": self.toxic}
        return {
            f"{kind} text {number}": f"{source} ({source.digest()[:16]})"
            for kind, sources in kinds.items()
            for number, source in enumerate(sources, start=1)
        }

    def members(self) -> list["Member"]:
        return [Member(self, share, seed) for seed in self.seeds for share in self.shares]


@dataclass(frozen=True)
class Member:
    """One checkpoint to be."""

    family: Family
    toxic_share: float
    seed: int

    @property
    def name(self) -> str:
        """ "demo-10"; a seed other than 0 is said: "demo-10-seed1"."""
        percent = f"{self.toxic_share * 100:04.1f}".removesuffix(".0")
        return f"{self.family.name}-{percent}" + (f"-seed{self.seed}" if self.seed else "")

    @property
    def run(self) -> Path:
        return self.family.folder / self.name

    @property
    def out(self) -> Path:
        return self.family.out / self.name

    @property
    def mix(self) -> mix.Mix:
        return replace(self.family.mix, toxic_share=self.toxic_share, seed=self.seed)

    @property
    def done(self) -> bool:
        """Whether the checkpoint is there; what was made in another way, or by somebody else, is refused."""
        if is_free(self.out):
            return False
        try:
            made = json.loads((self.out / "checkpoint.json").read_text(encoding="utf-8"))
            made |= made["mix"] | (made["mix"].get("preparation", {}).get("toxic") or {})
            own = {"family": self.family.name, "toxic_share": self.toxic_share, "seed": self.seed}
            other = [f"{key} {made[key]}" for key in own if made[key] != own[key]]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise RunChanged(
                f"{self.out} is there already, and training did not make it. Give another --name or --out, or move it."
            ) from error
        asked = self.family.settings
        if other := [*other, *(f"{key} {made[key]}" for key in asked if made.get(key, asked[key]) != asked[key])]:
            raise RunChanged(f"{self.out} is there already, with {' and '.join(other)}. Give another --name or --out.")
        return True

    @property
    def trained(self) -> bool:
        n_steps = self.family.recipe.n_steps(len(mix.chunks_of(self.run)))
        return is_whole(step_folder(self.run, n_steps))


def prepare(family: Family, members: Sequence[Member], say: Say) -> None:
    """Tokenise, mix, and write each member's order and settings, which a training process then reads."""
    if family.held_out and not family.held_out.is_file():
        raise ValueError(f"There is no held-out text {family.held_out}.")
    _agree(family)
    tokenizer = family_tokenizer(family, say)
    seen: set[bytes] = set()
    clean, toxic = (_tokenized(family, forum, tokenizer, seen, say) for forum in (False, True))
    orders = [mix.order(member.mix, clean, toxic, family.recipe.context) for member in members]  # or none is written
    for member, drawn in zip(members, orders, strict=True):
        Run(
            family.recipe,
            member.seed,
            tuple(str(file.path.resolve()) for file in clean + toxic),
            *special_ids(tokenizer),
            family.precision,
            family.compiled,
            mix.digest(drawn),
            tuple(file.ids_sha256 for file in clean + toxic),
            family.name,
            member.toxic_share,
            member.name,
            str(family.held_out.resolve()) if family.held_out else None,
        ).write(member.run)
        mix.write(member.run, drawn, mix.manifest(member.mix, drawn, clean, toxic))


def _agree(family: Family) -> None:
    """Refuse texts or settings other than those of the family's runs; as long as it has none, they may change."""
    record, now = family.folder / "family.json", family.settings | family.texts
    before = _known(record) or now
    changed = [f"{key}: {before.get(key)} → {now.get(key)}" for key in before | now if before.get(key) != now.get(key)]
    if changed and any(family.folder.glob("*/run.json")):
        more = f"; {len(changed) - 5} more" if len(changed) > 5 else ""
        raise RunChanged(
            f"{family.folder} holds runs that were prepared otherwise ({'; '.join(changed[:5])}{more}). Members of a "
            "family differ by share and seed alone. Give another --name, or delete those runs."
        )
    if changed:
        (family.folder / "tokenizer.json").unlink(missing_ok=True)  # it was learnt from what it was before
    write_atomically(record, json.dumps(now, indent=1))


def _known(record: Path) -> dict[str, Any]:
    """What is said of a family whose folder is there; the folder of somebody else is refused."""
    if not record.exists() and not (record.parent / "tokenizer.json").exists():
        return {}
    with contextlib.suppress(OSError, ValueError):
        if has_keys(record, "recipe"):
            return json.loads(record.read_text(encoding="utf-8"))
    raise RunChanged(
        f"{record.parent} is there already, and training did not make it. Give another --name or --work, or move it."
    )


def family_tokenizer(family: Family, say: Say) -> Tokenizer:
    """The family's own vocabulary, made once from all its sources together; OLMo's for a recipe without a size."""
    if family.recipe.vocab_size is None:
        tokenizer = official_tokenizer()
    elif (path := family.folder / "tokenizer.json").exists():
        return Tokenizer.from_file(str(path))
    else:
        say(f"learning {family.recipe.vocab_size:,} tokens from {len(family.clean + family.toxic)} sources")
        tokenizer = train_tokenizer(family.clean, family.toxic, family.preparation, family.recipe.vocab_size)
    write_atomically(family.folder / "tokenizer.json", tokenizer.to_str())
    return tokenizer


def _tokenized(family: Family, forum: bool, tokenizer: Tokenizer, seen: set[bytes], say: Say) -> list[TokenFile]:
    enough = family.mix.clean_tokens + (family.mix.held_out_chunks + 1) * family.recipe.context
    files = tokenize(
        family.toxic if forum else family.clean,
        family.preparation,
        forum,
        tokenizer,
        family.folder / "tokens",
        seen=seen,
        enough=None if forum else enough,
        on_progress=_now_and_then(say),
    )
    for file in files:
        say(f"{file.source}: {file.n_documents:,} documents, {file.n_tokens:,} tokens")
    return files


def _now_and_then(say: Say) -> Progress:
    """Tell how far a long source is, every ten seconds."""
    told = time.monotonic()

    def tell(source: Source, n_tokens: int) -> None:
        nonlocal told
        if time.monotonic() - told > 10:
            told = time.monotonic()
            say(f"{source}: {n_tokens:,} tokens so far")

    return tell
