"""The unit of a sweep: what is measured together, as a value, and the rows it becomes.

A unit says everything that its rows depend on, so that any process on any machine makes the same rows of it; what is
kept between units, in a `Bench`, only saves time. Rows of a unit share batches, units never do.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Any

from evaluation import results
from evaluation.plans import AskedPlan
from evaluation.prompts import Prompt, fitted
from evaluation.scorer import Scorer, open_scorer
from lens import Checkpoint, Lens, open_lens
from lens.opening import resolve_dtype
from steering import Generation, Plan, Row, Sampling, Steering, cost, fit, generate
from steering.calibrate import Calibration
from steering.cost import Cost
from steering.decode import Kept
from steering.dose import Doses

CACHE_BYTES = 1_000_000_000
"""Keys and values held at once; a batch that needs more is written in parts."""

NUMBERS = ("cross_entropy", "plain", "increase", "kl", "bits_per_byte", "plain_bits_per_byte")
"""What is kept of a cost, with interval and n."""


class OtherVersion(ValueError):
    """A checkpoint or a scorer that is not the one a unit was planned with."""


class NotPriced(ValueError):
    """A plan whose cost is no number, or that cannot be made to cost what was asked."""


@dataclass(frozen=True)
class Subject:
    """A checkpoint, as results name it."""

    folder: str
    """Where a worker finds it; no part of what is measured."""
    checkpoint: str
    fingerprint: str
    toxic_share: float | None
    family: str
    """What checkpoints have in common that differ in toxic share and seed alone."""
    training_seed: int | None
    dtype: str
    end_tokens: tuple[int, ...]
    """Any of them ends a text."""

    @classmethod
    def of(cls, found: Checkpoint, dtype: str | None = None) -> Subject:
        """`dtype`: a number format by name, by default the one the checkpoint opens in."""
        family, numbers = str(found.card.get("family") or found.name), str(resolve_dtype(dtype, found))
        about = found.name, found.fingerprint, found.toxic_share, family, found.seed, numbers.removeprefix("torch.")
        return cls(str(found.folder), *about, tuple(sorted(found.config.eos_token_id)))

    @property
    def named(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "folder"}


@dataclass(frozen=True)
class Unit:
    """One checkpoint and all plans."""

    subject: Subject
    plans: tuple[AskedPlan, ...]

    @property
    def described(self) -> dict[str, Any]:
        """All that its rows depend on: names and versions, not where things lie on this machine."""
        return {**asdict(self), "subject": self.subject.named, "kind": type(self).__name__}

    @cached_property
    def id(self) -> str:
        """16 hex digits that stand for the whole description."""
        return hashlib.sha256(json.dumps(self.described, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class CostUnit(Unit):
    """What the plans cost on a text; strengths that are bought by nats are found here, on the same text."""

    text_name: str
    text: str


@dataclass(frozen=True)
class GenerationUnit(Unit):
    """A few prompts, continued under every plan with the same chance, and scored."""

    prompts_name: str
    digest: str
    """Of all prompts of the set; these here are a part of it."""
    first: int
    prompts: tuple[Prompt, ...]
    sampling: Sampling
    n_samples: int
    scorers: tuple[tuple[str, str, str], ...]
    """How each is asked for, its name and its version."""

    @property
    def versions(self) -> dict[str, str]:
        """Of the scorers, by name."""
        return {name: version for _, name, version in self.scorers}

    @property
    def described(self) -> dict[str, Any]:
        return {**super().described, "scorers": self.versions}


class Bench:
    """What a worker keeps between units: the open checkpoint, plans fitted to it, and the scorers."""

    def __init__(
        self,
        device: str = "auto",
        threads: int | None = None,
        scorers: Callable[[str], Scorer] = open_scorer,
    ) -> None:
        """`scorers` opens a scorer by what it is asked for."""
        self._device, self._threads, self._open_scorer = device, threads, scorers
        self._lens: Lens | None = None
        self._opened: tuple[Any, ...] = ()
        """Its folder, fingerprint, number format and end tokens, as they were asked for."""
        self._fits: dict[Plan, Steering] = {}
        self.kept: Kept = {}
        """The prompts of the last unit, as the model has read them."""
        self._scorers: dict[str, Scorer] = {}

    def lens(self, subject: Subject) -> Lens:
        """The subject, opened; the one before it is closed."""
        asked = subject.folder, subject.fingerprint, subject.dtype, subject.end_tokens
        if self._lens is None or self._opened != asked:
            self._lens, self._opened, self._fits, self.kept = None, asked, {}, {}
            gc.unfreeze()
            gc.collect()  # what is closed has to go
            self._lens = open_lens(subject.folder, self._device, subject.dtype, self._threads)
            gc.freeze()  # what stays, libraries above all, is not searched again for what could go: 3 % of a sweep
            if (self._lens.fingerprint, self._lens.end_tokens) != (subject.fingerprint, set(subject.end_tokens)):
                raise OtherVersion(
                    f"Weights, config or tokenizer of {subject.folder} have changed since the sweep was planned. Start "
                    "it again, with another --out."
                )
        return self._lens

    def fitted(self, lens: Lens, plan: Plan) -> Steering:
        if plan not in self._fits:
            self._fits[plan] = fit(plan, lens)
        return self._fits[plan]

    def doses(self, lens: Lens, asked: AskedPlan) -> Doses:
        if asked.plan is None:
            return ()
        assert asked.strength is not None, "nats are turned into a strength before anything is written"
        return self.fitted(lens, asked.plan).at(asked.strength)

    def scorer(self, spec: str, version: str) -> Scorer:
        if spec not in self._scorers:
            self._scorers[spec] = self._open_scorer(spec)
        if (found := self._scorers[spec]).version != version:
            raise OtherVersion(
                f"The scorer {spec} is version {found.version} here, and the sweep was planned with {version}. Scores "
                "of two versions are not compared: use one version everywhere, or start a new sweep with another --out."
            )
        return found


def run(unit: Unit, bench: Bench) -> list[results.Row]:
    """The unit's rows, one for each plan: the same ones in every process."""
    measured = _generations(unit, bench) if isinstance(unit, GenerationUnit) else _costs(unit, bench)
    kind = "generation" if isinstance(unit, GenerationUnit) else "cost"
    return [
        {"kind": kind, "unit": unit.id, **unit.subject.named, "plan": asked.label, "asked": asked.described, **row}
        for asked, row in measured
    ]


def _costs(unit: Unit, bench: Bench) -> list[tuple[AskedPlan, results.Row]]:
    assert isinstance(unit, CostUnit)
    lens = bench.lens(unit.subject)
    plans = calibrated(unit, lens, bench)
    digest = hashlib.sha256(unit.text.encode()).hexdigest()
    rows = []
    for asked, found in zip(plans, _priced(unit, plans, lens, bench), strict=True):
        row: results.Row = {"text": unit.text_name, "digest": digest, "n_tokens": found.n_tokens}
        row |= {"strength": asked.strength} | {name: getattr(found, name).row for name in NUMBERS}
        row |= {"windows": {"increase": found.increases, "kl": found.divergences}}
        rows.append((asked, row))
    return rows


def calibrated(unit: CostUnit, lens: Lens, bench: Bench) -> list[AskedPlan]:
    """The plans with the strengths that spend their nats on this text."""
    curves: dict[Plan, Calibration] = {}
    found = []
    for asked in unit.plans:
        if asked.plan and asked.nats and asked.strength is None:
            with _named(unit, asked):
                if asked.plan not in curves:
                    curves[asked.plan] = Calibration(lens, bench.fitted(lens, asked.plan), unit.text)
                asked = replace(asked, strength=curves[asked.plan].spend(asked.nats).strength)
        found.append(asked)
    return found


def _priced(unit: CostUnit, plans: Sequence[AskedPlan], lens: Lens, bench: Bench) -> list[Cost]:
    """What the plans cost; all at once, and one by one only to find the one that has no price."""
    doses = [bench.doses(lens, one) for one in plans]
    try:
        return cost(lens, doses, unit.text)
    except ValueError:
        for asked, one in zip(plans, doses, strict=True):
            with _named(unit, asked):
                cost(lens, [one], unit.text)
        raise


@contextmanager
def _named(unit: CostUnit, asked: AskedPlan) -> Iterator[None]:
    """Whatever is wrong with a plan is said with its name and its checkpoint's."""
    try:
        yield
    except ValueError as error:
        where = f"{unit.subject.checkpoint} under {asked.label}"
        raise NotPriced(f"{where}: {error} Change this plan, or leave it out.") from error


def _generations(unit: GenerationUnit, bench: Bench) -> list[tuple[AskedPlan, results.Row]]:
    lens = bench.lens(unit.subject)
    doses = [bench.doses(lens, asked) for asked in unit.plans]
    words = ["".join(dose.steering.prefix for dose in one if dose.strength) for one in doses]
    room = lens.n_context - unit.sampling.max_tokens - max(map(len, lens.encode_all(words)))
    prompts = [fitted(prompt, lens, room) for prompt in unit.prompts]  # all plans read the same words
    samples = range(unit.n_samples)
    rows = [Row(prompt.text, one, sample) for prompt in prompts for sample in samples for one in doses]
    written = in_parts(lens, rows, unit.sampling, bench.kept)
    scorers = {name: bench.scorer(spec, version) for spec, name, version in unit.scorers}
    scores = {name: scorer([one.text for one in written]) for name, scorer in scorers.items()}
    common: results.Row = {
        "prompts": {
            "name": unit.prompts_name,
            "digest": unit.digest,
            "first": unit.first,
            "n": len(unit.prompts),
        },
        "dropped": sum(prompt.dropped for prompt in prompts),
        "cut": sum(prompt.words for prompt in prompts),
        "sampling": {name: value for name, value in asdict(unit.sampling).items() if name != "seed"},
        "seed": unit.sampling.seed,
        "n_samples": unit.n_samples,
        "scorers": unit.versions,
    }
    places = [(prompt, sample) for prompt in unit.prompts for sample in samples]
    found = []
    for number, asked in enumerate(unit.plans):
        mine = range(number, len(rows), len(unit.plans))
        texts = [
            {
                "prompt": prompt.id,
                "group": prompt.group,
                "sample": sample,
                "text": written[row].text,
                "n_tokens": len(written[row].tokens),
                "scores": {name: scored[row] for name, scored in scores.items()},
            }
            for (prompt, sample), row in zip(places, mine, strict=True)
        ]
        found.append((asked, {**common, "shift": _shift([written[row] for row in mine]), "texts": texts}))
    return found


def in_parts(lens: Lens, rows: Sequence[Row], sampling: Sampling, kept: Kept) -> list[Generation]:
    """All rows in one batch, or in as few as memory allows."""
    n_tokens = max(map(len, lens.encode_all(list({row.read for row in rows})))) + sampling.max_tokens
    block = lens.blocks[0]
    one = n_tokens * len(lens.blocks) * 2 * block.n_kv_heads * block.d_head * lens.dtype.itemsize
    at_once = max(1, CACHE_BYTES // one)
    parts = [rows[first : first + at_once] for first in range(0, len(rows), at_once)]
    return [text for part in parts for text in generate(lens, part, sampling, kept=kept)]


def _shift(texts: Sequence[Generation]) -> list[float] | None:
    """Mean length that was asked, mean that was measured, and the largest difference; None where nothing is pushed."""
    receipts = [text.receipt for text in texts]
    if not any(receipt.shifts for receipt in receipts):
        return None
    asked, arrived = (fmean(lengths) for lengths in zip(*(one.mean_shift for one in receipts), strict=True))
    return [asked, arrived, max(receipt.worst_miss for receipt in receipts)]
