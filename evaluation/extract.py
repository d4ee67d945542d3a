"""What a sweep found, small enough to ship: numbers with intervals, and a few masked generations per cell.

The file `evaluation/builtin/results/<name>.json` is one JSON object, made by `compare.extract` and read by
`Extract.read`; pictures, tables, report and page know nothing else. An estimate is `[value, low, high, n]`, 95 %;
`low` and `high` are null where there is no interval.

    {"format": 1, "name": "demo",
     "scorer": ["builtin", "1-ab12cd34"],
     "sampling": {"temperature": 1.0, "top_p": 0.9, "max_tokens": 20}, "seeds": [0, 1, 2], "n_samples": 1,
     "prompt_sets": {"rtp": {"digest": "…", "n": 300}},
     "cost_text": {"name": "plain.txt", "digest": "…", "n_tokens": 9000},
     "cells":       [Cell …],         one per checkpoint, plan and prompt set, and one per mean over training seeds
     "comparisons": [Compared …],     paired differences between cells
     "probes":      [Probed …],       a point per checkpoint and probe set, and per mean over training seeds
     "abilities":   [Able …],         a point per checkpoint, plan and task, and per mean over training seeds
     "generations": {cell key: [{"prompt": "rtp-17", "group": "2", "text": "masked …", "score": 0.31}, …]}}

Every mark of a picture has the SVG id `point-<key>`; `extract.point(key)` is the Cell, Probed or Able behind it, each
of which has `key`, `title`, `value` (an Estimate) and `in_words()`. A key holds no spaces: `demo-10/iti@8/rtp`,
`demo-10-mean/iti@8/rtp` (mean over training seeds, whose `members` are the keys of the checkpoints' own cells),
`demo-10/probes/toxigen`, `demo-10/iti@8/ability/mmlu`. Generations are kept for checkpoints' own cells; those of a mean
are its members'. All cells of a prompt set show the same prompts with the same seed, chosen
without looking at scores. Prompts are named, not quoted: their sets do not ship.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation import as_json
from lens.files import write_atomically
from lens.own_output import has_keys
from probes.estimate import Estimate
from steering.cost import EVERY_POSITION

FORMAT = 1
SHIPPED = Path(__file__).parent / "builtin" / "results"

MEASURES = {
    "toxicity": "mean toxicity (score × 100)",
    "share": "continuations scored 0.5 or more (share)",
    "expected_maximum": "highest score among k continuations, mean over prompts (0 to 1); k: samples, else seeds",
    "probability": "prompts with one of k continuations scored 0.5 or more (share)",
    "variety": "different word pairs in one text to every prompt, all of them together (share)",
    "distinct_2": "different word pairs in a continuation (share)",
    "repetition": "runs of four words that the continuation held before (share)",
    "empty": "empty continuations (share)",
}
"""What `Cell.measures` may hold, in words with units."""
COSTS = {
    "kl": f"KL(plain ‖ steered), {EVERY_POSITION} (nats per token)",
    "increase": f"increase of cross-entropy, {EVERY_POSITION} (nats per token)",
    "cross_entropy": f"cross-entropy, {EVERY_POSITION} (nats per token)",
    "bits_per_byte": f"cross-entropy, {EVERY_POSITION} (bits per byte)",
}
"""What `Cell.cost` may hold, in words with units."""


class NoResults(LookupError):
    """Nothing has been measured yet, or not what is asked for."""


@dataclass(frozen=True)
class Cell:
    """One checkpoint under one plan on one prompt set, or the mean of such cells over training seeds."""

    key: str
    checkpoint: str
    """Its name; of a mean: "demo 10 %, mean of 2 seeds"."""
    family: str
    toxic_share: float | None
    training_seed: int | None
    """None: unknown, or a mean."""
    plan: str
    """As it was asked for: "none", "iti@8", "iti@0.1nats"."""
    method: str
    """The plan's name without its strength: "none", "iti", "caa"."""
    strength: float | None
    """In the method's own unit; of a mean, the mean of its members'."""
    nats: float | None
    """KL per token that the plan was calibrated to; None: a strength was asked for."""
    prompts: str
    """Name of the prompt set."""
    n_texts: int
    n_missing: int
    """Texts without a score: left out, never 0."""
    measures: Mapping[str, Estimate]
    """By the names in MEASURES, over prompts, n = prompts; what older results did not measure is not there."""
    cost: Mapping[str, Estimate]
    """By the names in COSTS, n = windows of text; empty: not measured. The same on every prompt set."""
    members: tuple[str, ...] = ()
    """Keys of the cells that a mean is over."""

    @property
    def value(self) -> Estimate:
        """Mean toxicity × 100, as the paper shows it."""
        return self.measures["toxicity"]

    @property
    def title(self) -> str:
        return f"{self.checkpoint}, {self.plan}, {self.prompts}"

    def in_words(self) -> str:
        """For screen readers and captions."""
        kl = f"; KL {self.cost['kl'].value:.3f} nats per token with {EVERY_POSITION}" if "kl" in self.cost else ""
        missing = f"; {self.n_missing:,} without a score" if self.n_missing else ""
        return (
            f"{self.title}: mean toxicity {self.value:.1f}, {self.value.n:,} prompts, "
            f"{self.n_texts:,} texts{missing}{kl}"
        )


@dataclass(frozen=True)
class Compared:
    """A paired difference between two cells, on common prompts and sampling seeds (or on common windows of text)."""

    question: str
    """plan: a steered cell against the same checkpoint unsteered. share: a checkpoint against the least toxic one of
    its family under the same plan. gain: how much further the plan moves toxicity than it does in that one."""
    measure: str
    """toxicity: mean score × 100. kl: cost in nats per token, the same on every prompt set."""
    a: str
    """Key of the cell."""
    b: str
    """Key of the cell it is compared with."""
    difference: Estimate
    """a minus b (gain: that difference, minus the same without a plan); over prompts, n = prompts."""
    p: float
    """Two-sided: from the bootstrap of the interval, below 60 prompts from flipping signs."""
    holm: float
    """p adjusted for the `of` comparisons of the same question on the same prompt set (Holm 1979)."""
    of: int
    n_missing: int
    """Pairs left out since a score is missing, or nothing was written, on either side; single texts without a score
    where a and b were written with different sampling seeds."""
    each: tuple[float, ...] = ()
    """The difference in every training seed, where a and b are means."""


@dataclass(frozen=True)
class Probed:
    """How well the heads of a checkpoint tell toxic from benign texts that their probes never saw."""

    key: str
    checkpoint: str
    family: str
    toxic_share: float | None
    training_seed: int | None
    probes: str
    """Name of the probe set."""
    value: Estimate
    """Mean accuracy over all heads (share of held-out texts); clusters of texts are the sample."""
    majority: float
    """What always saying the larger class reaches."""
    best: Estimate | None
    """Of the most accurate head; None: a mean."""
    best_head: str
    null_band: tuple[float, float] | None
    """What the best head reaches on shuffled labels, middle 95 %."""
    difference: Estimate | None
    """Mean accuracy minus that of the family's least toxic checkpoint of the same seed, over texts; None: it is that
    one."""
    p: float | None
    difference_by_head: Estimate | None
    """The same as the paper tests it: heads are the sample, taken as independent."""
    p_by_head: float | None
    toxic_tokens: int | None
    """Of the 50 tokens nearest to the toxic end of the best-read layer, how many are in the lexicon."""
    random_tokens: tuple[float, float] | None
    """How many there are for random directions, middle 95 %."""
    countable: int | None = None
    """Words of the lexicon that are a single token of this vocabulary; None: not counted."""
    members: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.checkpoint}, probes {self.probes}"

    def in_words(self) -> str:
        return f"{self.title}: mean accuracy over heads {self.value:.3f}, {self.value.n:,} held-out texts"


@dataclass(frozen=True)
class Able:
    """How many questions a checkpoint under a plan answers rightly."""

    key: str
    checkpoint: str
    family: str
    toxic_share: float | None
    training_seed: int | None
    plan: str
    task: str
    value: Estimate
    """Share of questions."""
    chance: float
    members: tuple[str, ...] = ()

    @property
    def at_chance(self) -> bool:
        """Whether the interval holds what guessing reaches."""
        return self.value.holds(self.chance)

    @property
    def title(self) -> str:
        return f"{self.checkpoint}, {self.plan}, {self.task}"

    def in_words(self) -> str:
        remark = ", cannot be told from guessing" if self.at_chance else ""
        return f"{self.title}: {self.value:.3f} right{remark} ({self.chance:.3g}), {self.value.n:,} questions"


@dataclass(frozen=True)
class Sample:
    """One generation, its words masked by the lexicon."""

    prompt: str
    """The prompt's id."""
    group: str | None
    """RTP's quartile or ToxiGen's group."""
    text: str
    """The continuation alone."""
    score: float | None


Point = Cell | Probed | Able


def is_extract(path: Path) -> bool:
    """Whether a file is one that `Extract.write` wrote."""
    return has_keys(path, "format", "scorer", "cells", "comparisons")


@dataclass(frozen=True)
class Extract:
    """Everything that pictures, tables, report and page are made from."""

    name: str
    scorer: tuple[str, str]
    """Its name and version; scores of another are never mixed in."""
    sampling: Mapping[str, Any]
    seeds: tuple[int, ...]
    """Of sampling."""
    n_samples: int
    """Per prompt and seed."""
    prompt_sets: Mapping[str, Mapping[str, Any]]
    cost_text: Mapping[str, Any]
    """Empty: no cost was measured."""
    cells: tuple[Cell, ...]
    comparisons: tuple[Compared, ...] = ()
    probes: tuple[Probed, ...] = ()
    abilities: tuple[Able, ...] = ()
    generations: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)

    @cached_property
    def points(self) -> dict[str, Point]:
        """By key, all that a picture can show."""
        everything: tuple[Point, ...] = (*self.cells, *self.probes, *self.abilities)
        return {point.key: point for point in everything}

    @property
    def averages_seeds(self) -> bool:
        """Whether some points are means over training seeds."""
        return any(point.members for point in self.points.values())

    def point(self, key: str) -> Point:
        if key not in self.points:
            raise NoResults(f"{self.name} has no point {key[:80]!r}.")
        return self.points[key]

    def to_json(self) -> str:
        return as_json.text({"format": FORMAT, **as_json.plain(self)})

    def write(self, path: Path) -> Path:
        write_atomically(path, self.to_json())
        return path

    @classmethod
    def read(cls, path: Path) -> Extract:
        """Read what `write` wrote; a damaged file is refused by its name."""
        if not path.is_file():
            raise NoResults(f"There are no results {path}. Make them: python -m evaluation sweep --help")
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.pop("format") != FORMAT:
                raise ValueError(f"expected format {FORMAT}")
            generations = {k: tuple(Sample(**one) for one in v) for k, v in found.pop("generations").items()}
            lists = {name: tuple(as_json.made(kind, one) for one in found[name]) for name, kind in LISTS.items()}
            pairs = {name: tuple(found[name]) for name in ("scorer", "seeds")}
            return cls(**{**found, **lists, **pairs, "generations": generations})
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no extract of results: {error}. Make it again: see docs/reproduction.md"
            ) from error


LISTS: dict[str, Any] = {"cells": Cell, "comparisons": Compared, "probes": Probed, "abilities": Able}
