"""A scorer is a named, versioned function from texts to toxicity, 0 to 1; a failure is missing, never 0."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from evaluation.builtin_scorer import BuiltinScorer
from evaluation.cache import ScoreCache, default_cache, text_sha
from evaluation.classifier import Classifier
from evaluation.remote import Remote, ScorerStopped
from evaluation.services import SERVICES

NAMES = ("builtin", *SERVICES)
T = TypeVar("T")
AT_ONCE = 256  # texts between two visits to the cache


@runtime_checkable
class Scorer(Protocol):
    """Scores are comparable where name and version are the same, and nowhere else."""

    @property
    def name(self) -> str:
        """What it is called in results: builtin, openai, or a classifier's hub id."""

    @property
    def version(self) -> str:
        """Changes whenever a score could change."""

    def __call__(self, texts: Sequence[str]) -> Sequence[float | None]:
        """One score per text, in order; None where there is none."""


class Cached:
    """A scorer that asks for no text twice, within a call or, with a cache, ever."""

    def __init__(self, scorer: Scorer, cache: ScoreCache | None = None, at_once: int = AT_ONCE) -> None:
        self.scorer, self.cache = scorer, cache
        self.at_once = at_once
        """How many texts are handed over together; what they scored is stored before the next are."""
        self.name, self.version = scorer.name, scorer.version
        told: Any = getattr(scorer, "missing", None)
        self.tells = told is not None
        """Whether the scorer itself counts why it gives no score."""
        self.missing: Counter[str] = told if self.tells else Counter()
        """Why texts have no score: how many so far, by kind."""

    def __call__(self, texts: Sequence[str]) -> list[float | None]:
        """One score per text, in order; None where there is none, and of a blank text, which nobody can judge."""
        shas = [text_sha(text) for text in texts]
        by_sha = {sha: text for sha, text in zip(shas, texts, strict=True) if text.strip()}
        self.missing["blank"] += sum(sha not in by_sha for sha in shas)
        scores: dict[str, float | None] = dict(self.cache.known(list(by_sha))) if self.cache else {}
        unknown = [sha for sha in by_sha if sha not in scores]
        for start in range(0, len(unknown), self.at_once):
            scores |= self._fresh({sha: by_sha[sha] for sha in unknown[start : start + self.at_once]})
        return [scores.get(sha) for sha in shas]

    def _fresh(self, texts: dict[str, str]) -> dict[str, float | None]:
        """Ask the scorer, and store what it answered, even where it stopped half-way."""
        try:
            scores = dict(zip(texts, self.scorer(list(texts.values())), strict=True))
        except ScorerStopped as stopped:
            self._keep(dict(zip(texts, stopped.scores, strict=False)))
            raise
        found = self._keep(scores)
        if not self.tells:
            self.missing["not judged"] += len(scores) - len(found)
        return scores

    def _keep(self, scores: dict[str, float | None]) -> dict[str, float]:
        """Store those that there are."""
        found = {sha: score for sha, score in scores.items() if score is not None}
        for score in found.values():
            if not 0 <= score <= 1:
                raise ValueError(f"{self.name} gave a score of {score}; a scorer's scores lie between 0 and 1.")
        if self.cache:
            self.cache.keep(found)
        return found


def batches(items: Iterator[T], size: int) -> Iterator[Sequence[T]]:
    """So many at a time, so that a file of any length is read in little memory."""
    while batch := list(islice(items, size)):
        yield batch


def missing_scores(n_missing: int, n: int, why: Mapping[str, int]) -> str:
    """How many texts have no score, in a sentence, with the kinds that were counted."""
    kinds = ", ".join(f"{kind}: {count:,}" for kind, count in Counter(why).most_common() if count)
    return f"{n_missing:,} of {n:,} texts have no score{f' ({kinds})' * bool(kinds)}."


def open_scorer(spec: str = "builtin", cache: str | Path | None = None) -> Cached:
    """A scorer by its name ("builtin", "openai", "perspective"), or a classifier by folder or Hugging Face hub id.

    Scores are kept in `cache`, by default in the user's cache folder; "none" keeps them nowhere.
    """
    scorer, at_once = _open(spec)
    kept = None if cache == "none" else ScoreCache(Path(cache or default_cache()), scorer.name, scorer.version)
    return Cached(scorer, kept, at_once)


def _open(spec: str) -> tuple[Scorer, int]:
    """The scorer itself, and how many texts it is handed at once."""
    if spec in SERVICES:
        remote = Remote(SERVICES[spec])
        return remote, remote.at_once
    if spec == "builtin":
        return BuiltinScorer.open(), 8 * AT_ONCE  # it is fast: what is stored at once costs one waiting for the disk
    if "/" not in spec and not Path(spec.partition("#")[0]).is_dir():
        near = get_close_matches(spec, NAMES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"There is no scorer {spec!r}.{hint} There are: {', '.join(NAMES)}, and classifiers by folder or hub id, "
            "such as unitary/unbiased-toxic-roberta."
        )
    return Classifier.open(spec), AT_ONCE
