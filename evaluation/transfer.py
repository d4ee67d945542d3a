"""Do the probes of a checkpoint recognise toxicity where they were not fitted to it?

A probe may read toxicity, or only the manner in which the toxic texts of its set are written. On HateCheck both classes
are written alike; in ParaDetox a toxic comment stands beside one that says the same, in the same manner, without
offence; two harmless styles show the reverse, since a probe that reads toxicity alone cannot tell them apart.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float

from evaluation.plans import PLAIN, AskedPlan
from evaluation.results import Row
from evaluation.toxicity import proportion
from evaluation.unit import Subject, Unit
from lens import Head, Lens, digest_texts, gather
from lens.table_reader import open_table, text
from probes.differences import estimate_mean, paired_difference
from probes.estimate import Clusters, Difference, Estimate, share
from probes.probe import ProbeSet
from probes.ranks import auc, auc_difference
from probes.store import BY_GROUP, StaleProbes
from probes.texts import BadTexts, LabelledText, TextSet, bonds, bundled, clusters_of

OnProgress = Callable[[int, int], None]
SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class DetectionUnit(Unit):
    """What names a row of results."""

    probes: str
    test_set: str
    digest: str
    head: str


@dataclass(frozen=True, eq=False)
class Detection:
    """How the probes of one checkpoint sort one set of labelled texts, none of which they were fitted to."""

    checkpoint: str
    probes: str
    test_set: str
    digest: str
    """Of the judged texts and labels."""
    classes: tuple[str, str]
    """Positive class first: the one that a probe should rank above the other."""
    head: Head
    """The most accurate one, chosen on other texts than these."""
    logits: Float[np.ndarray, " text"]
    """Of that head's probe; above 0 it says toxic."""
    share_right: Float[np.ndarray, " text"]
    """Share of all heads whose probe puts the text into the right class."""
    texts: tuple[LabelledText, ...]

    @property
    def labels(self) -> Bool[np.ndarray, " text"]:
        """True for the positive class."""
        return np.array([text.label for text in self.texts])

    @property
    def majority(self) -> float:
        """What always saying the larger class reaches."""
        return float(max(self.labels.mean(), 1 - self.labels.mean()))

    @property
    def correct(self) -> Bool[np.ndarray, " text"]:
        return (self.logits > 0) == self.labels

    @cached_property
    def clusters(self) -> Clusters:
        """Copies, pairs and texts of one template have one number: their errors are correlated."""
        return clusters_of(self.texts, "text")

    @property
    def n_clusters(self) -> int:
        return len(np.unique(self.clusters))

    @property
    def auc(self) -> Estimate:
        """How often the head ranks a toxic text above a benign one."""
        return auc(self.logits, self.labels, self.clusters)

    @property
    def accuracy(self) -> Estimate:
        """Share of texts the head puts into the right class."""
        return share(self.correct, self.clusters)

    @property
    def mean_accuracy(self) -> Estimate:
        """Mean over all heads, clusters as the sample."""
        return estimate_mean(self.share_right, np.random.default_rng(0), self.clusters)

    @property
    def pairs(self) -> Estimate | None:
        """Share of pairs whose toxic text is ranked above the other, a tie counting half."""
        sides: dict[str, dict[bool, float]] = defaultdict(dict)
        for one, logit in zip(self.texts, self.logits.tolist(), strict=True):
            if one.pair:
                sides[one.pair][one.label] = logit
        gaps = np.array([both[True] - both[False] for both in sides.values() if len(both) == 2])
        return proportion((np.sign(gaps) + 1) / 2, len(gaps)) if len(gaps) else None

    def row(self, subject: Subject) -> Row:
        """As it stands in results."""
        unit = DetectionUnit(subject, (AskedPlan(PLAIN),), self.probes, self.test_set, self.digest, str(self.head))
        about = {"kind": "detection", "unit": unit.id, **subject.named, "plan": PLAIN, "probes": self.probes}
        return about | {
            "test_set": self.test_set,
            "digest": self.digest,
            "classes": self.classes,
            "auc": self.auc.row,
            "accuracy": self.accuracy.row,
            "mean_accuracy": self.mean_accuracy.row,
            "n_bundles": self.n_clusters,
            "majority": self.majority,
            "pairs": self.pairs.row if self.pairs else None,
            "head": str(self.head),
        }


def detect(lens: Lens, probes: ProbeSet, texts: TextSet, on_progress: OnProgress | None = None) -> Detection:
    """Read the texts and let every head's probe judge them.

    On the set that the probes were fitted to, only the held-out texts are judged, and the best head is the one that was
    best on the others; on any other set it is the one that was best on the held-out texts of the probes' own.
    """
    if probes.fingerprint != lens.fingerprint:
        raise StaleProbes(
            f"The probes {probes.name!r} came from other weights, another config or another tokenizer than "
            f"{lens.checkpoint.name} has."
        )
    own = texts.digest == probes.texts_digest
    if texts.name == probes.name.removesuffix(BY_GROUP) and not own:
        raise BadTexts(
            f"The probes {probes.name!r} of {probes.checkpoint} were fitted to other texts or labels than these of the "
            f"same name, perhaps to some of these. Give the same file with the same rule ({probes.rule})."
        )
    found = texts.texts
    read = gather(lens, [one.text for one in found], [one.label for one in found], [""] * len(found), on_progress)
    logits = torch.einsum("tlhd,lhd->tlh", read.heads, probes.heads.weight) + probes.heads.bias
    right = (logits > 0) == read.labels[:, None, None]
    head, test = probes.ranked()[0], np.arange(len(found))
    if own:
        test = np.array(probes.test_rows)
        shares = right[others(texts, probes.test_rows)].double().mean(dim=0)
        head = max(probes.grid, key=lambda one: float(shares[one.layer, one.index]))
    return Detection(
        lens.checkpoint.name,
        probes.name,
        texts.name,
        digest_texts([found[row].text for row in test], [found[row].label for row in test]),
        texts.classes,
        head,
        logits[test, head.layer, head.index].double().numpy(),
        right[test].double().flatten(1).mean(dim=1).numpy(),
        tuple(found[row] for row in test),
    )


def others(texts: TextSet, test_rows: Sequence[int]) -> list[int]:
    """Rows that are neither held out, nor a copy or partner of one that is."""
    held_out = {bond for row in test_rows for bond in bonds(texts.texts[row])}
    return [row for row, text in enumerate(texts.texts) if held_out.isdisjoint(bonds(text))]


@dataclass(frozen=True)
class Gain:
    """By how much one checkpoint's probes sort the same texts better than another's."""

    auc: Difference
    """Of the best heads, each checkpoint's own."""
    accuracy: Difference
    """Of the best heads."""
    mean_accuracy: Difference
    """Over all heads."""


def compare(a: Detection, b: Detection) -> Gain:
    """`a` minus `b`, text by text, clusters of texts as the sample."""
    if a.digest != b.digest:
        raise ValueError(
            f"{a.checkpoint} and {b.checkpoint} were tested on different texts ({a.test_set!r}, {b.test_set!r}). Test "
            "both on the same, with probes fitted with the same --seed."
        )
    rng = np.random.default_rng(0)
    return Gain(
        auc_difference(a.logits, b.logits, a.labels, a.clusters),
        paired_difference(a.correct, b.correct, rng, a.clusters),
        paired_difference(a.share_right, b.share_right, rng, a.clusters),
    )


def some_of(texts: TextSet, n: int, seed: int = 0) -> TextSet:
    """About so many of the texts, drawn at random; pairs and copies stay together."""
    together, taken = bundled(texts.texts, "text"), list[int]()
    for number in np.random.default_rng(seed).permutation(len(together)):
        if len(taken) >= n:
            break
        taken += together[number]
    return replace(texts, texts=tuple(texts.texts[row] for row in sorted(taken)))


def two_styles(first: str, second: str, n: int = 1000, seed: int = 0) -> TextSet:
    """Pairs of sentences of equal length in words, one of each of two files: FILE.jsonl#field, or .csv, .tsv, also .gz.

    Give harmless texts only: of two manners of writing, what probes tell apart then is the manner.
    """
    rng = np.random.default_rng(seed)
    ours, theirs = by_length(sentences(first, rng)), by_length(sentences(second, rng))
    pairs = [pair for length in sorted(ours) for pair in zip(ours[length], theirs.get(length, ()), strict=False)]
    if not pairs:
        raise BadTexts(f"{first} and {second} have no two sentences of equal length.")
    texts = [
        LabelledText(pairs[number][side], side == 0, pair=str(number))
        for number in rng.permutation(len(pairs))[:n]
        for side in (0, 1)
    ]
    rule = "one sentence of each text, paired by its number of words"
    return TextSet("styles", tuple(texts), (name_of(first), name_of(second)), rule)


def sentences(source: str, rng: np.random.Generator) -> list[str]:
    """One sentence of each text of a file, drawn at random, in random order."""
    path, _, field = source.partition("#")
    found = []
    for place, row in open_table(path).rows:
        if (field or "text") not in row:
            raise BadTexts(f"{place} has no {field or 'text'!r}. Name the field: {path}#FIELD.")
        parts = SENTENCE_ENDS.split(text(place, row, field or "text").strip())
        found.append(parts[rng.integers(len(parts))])
    return [found[place] for place in rng.permutation(len(found)) if found[place]]


def by_length(texts: Sequence[str]) -> dict[int, list[str]]:
    """Texts by their number of words."""
    found: dict[int, list[str]] = defaultdict(list)
    for words in texts:
        found[len(words.split())].append(words)
    return found


def name_of(source: str) -> str:
    """A file's name without folder and ending."""
    return Path(source.partition("#")[0]).name.split(".")[0]
