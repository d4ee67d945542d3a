"""The rows of a sweep, gathered: for each prompt set one array of scores, checkpoints and plans by prompts by draws."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from evaluation.extract import NoResults
from evaluation.fluency import Fluency, of_text, pairs, variety
from evaluation.results import Results, Row
from steering import Plan

DEFAULTS: Row = json.loads(json.dumps(asdict(Plan())))
"""Of a plan, as rows hold it."""

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
    variety: Float[np.ndarray, " source"]
    """Of one text to every prompt, over the draws that reached all; NaN where none did."""
    variety_without: Float[np.ndarray, "source prompt"]
    """The same without each prompt in turn."""
    n_texts: tuple[int, ...]
    """Of each source."""
    n_missing: tuple[int, ...]
    """Texts of each source without a score."""
    first_texts: tuple[dict[str, tuple[str, float]], ...]
    """Of each source, by prompt: what was written with its first seed, and its score, NaN where it has none."""
    n_samples: int
    """Per prompt and seed."""
    dropped: int
    """Demonstrations that did not fit into the context and were left out of the prompts, over all seeds; of the source
    that wrote most, for all sources of a sweep read the same words."""


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
    """Gather the rows of some folders; refused where one name stands for two things, two plans or prompt lists say."""
    if not folders:
        raise NoResults("Name at least one folder of results, such as a sweep's --out.")
    shared: dict[str, dict[str, Any]] = {}
    columns: dict[str, dict[tuple[str, str], _Column]] = {}
    others: dict[str, list[Row]] = {}
    for row in _once(row for folder in folders for row in Results(folder).rows()):
        _agree(shared, f"weights of {row['checkpoint']}", row["fingerprint"][:12], row["fingerprint"])
        _agree(shared, f"dtypes of {row['checkpoint']}", str(row.get("dtype")))
        _agree(shared, f"plans named {row['plan']}", _said(row.get("asked")))
        if row["kind"] == "ability":
            questions = f"{len(row['correct'])} of them, {row['digest'][:12]}"
            _agree(shared, f"choices of {row['task']} questions for {row['checkpoint']}", questions)
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
        self.fluency: list[Fluency] = []
        self.pairs: list[Int[np.ndarray, " pair"]] = []
        self.first: dict[str, tuple[int, str, float]] = {}
        self.dropped = 0
        self._there: set[tuple[str, int, int]] = set()

    def add(self, row: Row, scorer: str) -> None:
        """Texts that are there already, as the plain model's are in a second sweep of a family, count once."""
        seed = row["seed"]
        new = {(text["prompt"], seed, text["sample"]): text for text in row["texts"]}
        new = {place: text for place, text in new.items() if place not in self._there}
        self._there |= new.keys()
        self.dropped += row["dropped"] if new else 0
        for text in new.values():
            given = text["scores"].get(scorer)
            score = np.nan if given is None else given
            self.ids.append(text["prompt"])
            self.groups[text["prompt"]] = text["group"]
            self.seeds.append(seed)
            self.samples.append(text["sample"])
            self.scores.append(score)
            self.fluency.append(of_text(text["text"]))
            self.pairs.append(pairs(text["text"]))
            if text["sample"] == 0 and seed <= self.first.get(text["prompt"], (seed,))[0]:
                self.first[text["prompt"]] = (seed, text["text"], score)


def _grid(name: str, digest: str, columns: list[_Column], seeds: list[int], n_samples: int) -> Grid:
    columns = sorted(columns, key=_order)
    groups = dict(sorted((id, group) for column in columns for id, group in column.groups.items()))
    number = {id: i for i, id in enumerate(groups)}
    shape = (len(columns), len(groups), len(seeds) * n_samples)
    scores = np.full(shape, np.nan)
    fluency = {measure: np.full(shape, np.nan) for measure in Fluency._fields}
    varieties = []
    for i, column in enumerate(columns):
        draws = np.searchsorted(seeds, column.seeds) * n_samples + np.array(column.samples)
        where = (i, np.array([number[id] for id in column.ids]), draws)
        scores[where] = column.scores
        for measure, values in zip(Fluency._fields, np.array(column.fluency, dtype=float).T, strict=True):
            fluency[measure][where] = values
        varieties.append(_variety(column.pairs, where[1], draws, len(groups)))
    return Grid(
        prompts=name,
        digest=digest,
        ids=tuple(groups),
        groups=tuple(groups.values()),
        sources=tuple(column.source for column in columns),
        scores=scores,
        fluency=fluency,
        variety=np.array([share for share, _ in varieties]),
        variety_without=np.array([without for _, without in varieties]),
        n_texts=tuple(len(column.ids) for column in columns),
        n_missing=tuple(int(np.isnan(column.scores).sum()) for column in columns),
        first_texts=tuple({id: first[1:] for id, first in column.first.items()} for column in columns),
        n_samples=n_samples,
        dropped=max(column.dropped for column in columns),
    )


def _variety(
    texts: Sequence[Int[np.ndarray, " _pair"]],
    prompts: Int[np.ndarray, " text"],
    draws: Int[np.ndarray, " text"],
    n_prompts: int,
) -> tuple[float, Float[np.ndarray, " prompt"]]:
    """The mean over draws, each with one text to every prompt, so that all cells of a grid compare."""
    whole = [rows for draw in np.unique(draws) if len(rows := np.flatnonzero(draws == draw)) == n_prompts]
    found = [variety([texts[row] for row in rows[np.argsort(prompts[rows])]]) for rows in whole]
    if not found:
        return np.nan, np.full(n_prompts, np.nan)
    return float(np.mean([share for share, _ in found])), np.mean([without for _, without in found], axis=0)


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


def _said(asked: Row | None) -> str:
    """What a plan's label stands for: all that is not the default."""
    if asked is None:
        return "no plan"
    said = {**asked["plan"], "nats": asked["nats"]}
    return ", ".join(f"{name}={value}" for name, value in said.items() if value != DEFAULTS.get(name)) or "defaults"


def _agree(shared: dict[str, dict[str, Any]], what: str, shown: str, value: Any = None) -> None:
    """Remember a value that must be the same in all rows."""
    values = shared.setdefault(what, {})
    values[shown] = value
    if len(values) > 1:
        raise Mixed(f"These results hold two {what} ({'; '.join(values)}). Compare them apart, or measure one anew.")
