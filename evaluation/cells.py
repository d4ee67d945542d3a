"""The rows of a sweep, gathered: for each prompt set one array of scores, checkpoints and plans by prompts by draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from evaluation.extract import NoResults
from evaluation.fluency import WORD, distinct
from evaluation.results import Results, Row

FLUENCY = ("distinct_2", "repetition", "empty")
"""What is measured on each text beside its score."""


Place = tuple[str, str]
"""A checkpoint's name and a plan's."""


class Mixed(ValueError):
    """Results that answer different questions; one table of them would compare what cannot be compared."""


@dataclass(frozen=True)
class Source:
    """Who wrote: a checkpoint under a plan."""

    checkpoint: str
    fingerprint: str
    family: str
    toxic_share: float | None
    training_seed: int | None
    plan: str
    """As it was asked for: "none", "iti@8", "iti@0.1nats"."""
    strength: float | None
    """In the method's own unit, as it was found for this checkpoint if nats were asked for."""
    nats: float | None

    @property
    def method(self) -> str:
        """The plan's name without its strength."""
        return self.plan.partition("@")[0]

    @classmethod
    def of(cls, row: Row) -> Source:
        asked = row.get("asked") or {}
        named = {name: row[name] for name in ("checkpoint", "fingerprint", "family", "toxic_share", "training_seed")}
        return cls(**named, plan=row["plan"], strength=asked.get("strength"), nats=asked.get("nats"))


@dataclass(frozen=True, eq=False)
class Grid:
    """Everything that was written to one prompt set, aligned; NaN where nothing was written or no score was given."""

    prompts: str
    digest: str
    ids: tuple[str, ...]
    groups: tuple[str | None, ...]
    sources: tuple[Source, ...]
    scores: Float[np.ndarray, "source prompt draw"]
    """0 to 1; draws are sampling seeds, and samples within them."""
    fluency: dict[str, Float[np.ndarray, "source prompt draw"]]
    n_texts: tuple[int, ...]
    """Of each source."""
    n_missing: tuple[int, ...]
    """Texts of each source without a score."""
    first_texts: tuple[dict[str, str], ...]
    """Of each source, by prompt: what was written with the first seed."""


@dataclass(frozen=True, eq=False)
class Found:
    """All that some folders of results hold, read by one scorer."""

    scorer: tuple[str, str]
    sampling: dict[str, Any]
    seeds: tuple[int, ...]
    n_samples: int
    grids: dict[str, Grid]
    """By the name of the prompt set."""
    others: dict[str, list[Row]] = field(default_factory=dict)
    """The rows of other kinds: cost, ability, detection."""

    @property
    def costs(self) -> dict[Place, Row]:
        """The cost rows by checkpoint and plan."""
        return {(row["checkpoint"], row["plan"]): row for row in self.others.get("cost", ())}


def read(folders: Sequence[Path], scorer: str | None = None) -> Found:
    """Gather the rows of some folders; refused where they hold two scorers' versions, prompt lists or samplings."""
    shared: dict[str, dict[str, Any]] = {}
    columns: dict[str, dict[tuple[str, str], _Column]] = {}
    others: dict[str, list[Row]] = {}
    for row in _once(row for folder in folders for row in Results(folder).rows()):
        _agree(shared, f"weights of {row['checkpoint']}", row["fingerprint"][:12], row["fingerprint"])
        if row["kind"] == "cost":
            _agree(shared, "texts that costs are measured on", row["text"] + " " + row["digest"][:12], row["digest"])
        if row["kind"] != "generation":
            others.setdefault(row["kind"], []).append(row)
            continue
        prompts = row["prompts"]["name"]
        chosen = _scorer(row["scorers"], scorer)
        _agree(shared, "scorers", " ".join(chosen), chosen)
        _agree(shared, f"prompt lists named {prompts}", row["prompts"]["digest"][:12], row["prompts"]["digest"])
        _agree(shared, "samplings", str(row["sampling"]), row["sampling"])
        _agree(shared, "numbers of samples", str(row["n_samples"]), row["n_samples"])
        key = (row["checkpoint"], row["plan"])
        columns.setdefault(prompts, {}).setdefault(key, _Column(Source.of(row))).add(row, chosen[0])
    if not columns:
        names = ", ".join(map(str, folders))
        raise NoResults(f"There are no generations in {names}. Make some: python -m evaluation sweep --help")
    one = {what: next(iter(values.values())) for what, values in shared.items()}
    seeds = sorted({seed for of in columns.values() for column in of.values() for seed in column.seeds})
    n_samples = one["numbers of samples"]
    grids = {
        name: _grid(name, one[f"prompt lists named {name}"], list(of.values()), seeds, n_samples)
        for name, of in sorted(columns.items())
    }
    return Found(one["scorers"], one["samplings"], tuple(seeds), n_samples, grids, others)


class _Column:
    """What one source wrote, text by text, as it is read."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.ids: list[str] = []
        self.groups: dict[str, str | None] = {}
        self.seeds: list[int] = []
        self.samples: list[int] = []
        self.scores: list[float] = []
        self.fluency: list[tuple[float, ...]] = []
        self.first: dict[str, tuple[int, str]] = {}
        self._there: set[tuple[str, int, int]] = set()

    def add(self, row: Row, scorer: str) -> None:
        """Texts that are there already, as the plain model's are in a second sweep of a family, count once."""
        seed = row["seed"]
        for text in row["texts"]:
            if (place := (text["prompt"], seed, text["sample"])) in self._there:
                continue
            self._there.add(place)
            score = text["scores"].get(scorer)
            self.ids.append(text["prompt"])
            self.groups[text["prompt"]] = text["group"]
            self.seeds.append(seed)
            self.samples.append(text["sample"])
            self.scores.append(np.nan if score is None else score)
            self.fluency.append(_fluency(text["text"]))
            if text["sample"] == 0 and seed <= self.first.get(text["prompt"], (seed,))[0]:
                self.first[text["prompt"]] = (seed, text["text"])


def _fluency(text: str) -> tuple[float, ...]:
    """The measures in FLUENCY, by `evaluation.fluency`'s rules; the others are not worth their time on every text."""
    words = WORD.findall(text.lower())
    return distinct(words, 2), 1 - distinct(words, 4), float(not words)


def _grid(name: str, digest: str, columns: list[_Column], seeds: list[int], n_samples: int) -> Grid:
    columns = sorted(columns, key=_order)
    groups = dict(sorted((id, group) for column in columns for id, group in column.groups.items()))
    number = {id: i for i, id in enumerate(groups)}
    shape = (len(columns), len(groups), len(seeds) * n_samples)
    scores = np.full(shape, np.nan)
    fluency = {measure: np.full(shape, np.nan) for measure in FLUENCY}
    for i, column in enumerate(columns):
        draws = np.searchsorted(seeds, column.seeds) * n_samples + np.array(column.samples)
        where = (i, np.array([number[id] for id in column.ids]), draws)
        scores[where] = column.scores
        for measure, values in zip(FLUENCY, np.array(column.fluency, dtype=float).T, strict=True):
            fluency[measure][where] = values
    return Grid(
        prompts=name,
        digest=digest,
        ids=tuple(groups),
        groups=tuple(groups.values()),
        sources=tuple(column.source for column in columns),
        scores=scores,
        fluency=fluency,
        n_texts=tuple(len(column.ids) for column in columns),
        n_missing=tuple(int(np.isnan(column.scores).sum()) for column in columns),
        first_texts=tuple({id: text for id, (_, text) in column.first.items()} for column in columns),
    )


def _order(column: _Column) -> tuple[Any, ...]:
    """By family, share and training seed; plans stay in the order of asking."""
    source = column.source
    return source.family, source.toxic_share or 0.0, source.training_seed or 0, source.checkpoint


def _once(rows: Iterable[Row]) -> Iterator[Row]:
    """Without those that an earlier folder holds too."""
    seen = set()
    for row in rows:
        key = (row["kind"], row["unit"], row["plan"], row.get("task"))
        if key not in seen:
            seen.add(key)
            yield row


def _scorer(found: dict[str, str], asked: str | None) -> tuple[str, str]:
    """The scorer asked for with its version; the only one if none is asked for."""
    name = asked or (next(iter(found)) if len(found) == 1 else "")
    if name not in found:
        problem = f"no scores of {asked!r}" if asked else "scores of several scorers, which are never compared"
        raise NoResults(f"These results hold {problem}. Choose one with --scorer: {', '.join(found)}.")
    return name, found[name]


def _agree(shared: dict[str, dict[str, Any]], what: str, shown: str, value: Any) -> None:
    """Remember a value that must be the same in all rows."""
    values = shared.setdefault(what, {})
    values[shown] = value
    if len(values) > 1:
        raise Mixed(f"These results hold two {what} ({'; '.join(values)}). Compare them apart, or measure one anew.")
