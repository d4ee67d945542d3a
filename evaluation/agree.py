"""How the scores of two scorers on the same texts relate, in numbers and as a picture; they never share a column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from evaluation.resample import resampled
from probes.differences import SMALL, Z, estimate_mean
from probes.drawing import draw_file, empty_figure
from probes.estimate import Clusters, Estimate
from probes.ranks import auc

TOXIC = 0.5  # RealToxicityPrompts calls a text toxic from here on (Gehman et al. 2020, section 2)
STEPS = 10
DRAWS = 1000

Scores = Float[np.ndarray, " text"]
Correlation = Callable[[Scores, Scores], float]


class NothingToRelate(ValueError):
    """Scores from which no relation can be read."""


@dataclass(frozen=True)
class Step:
    """The texts to which the first scorer gives about the same score, and what the second gives to them."""

    low: float
    high: float
    """The first's scores: from `low` to just under `high`, in the last step 1 too."""
    n: int
    quarter: float
    median: float
    three_quarters: float
    """The second's scores; `median` is where the first's number lies on the second's scale."""


@dataclass(frozen=True)
class Agreement:
    """Two scorers on the same texts."""

    first: str
    second: str
    """Names with versions."""
    missing: int
    """Texts without a score from either, left out."""
    pearson: Estimate
    spearman: Estimate
    difference: Estimate
    """Mean of first minus second."""
    first_auc: Estimate | None
    """How well the first ranks what the second scores 0.5 or more above the rest; None where it scores all alike."""
    second_auc: Estimate | None
    """The reverse."""
    steps: tuple[Step, ...]
    """Where the first's tenths lie on the second's scale; tenths without texts are left out."""

    def __str__(self) -> str:
        lines = [
            f"# {self.first} and {self.second}",
            "",
            f"{self.pearson.n:,} texts; {self.missing:,} more lack a score from either.",
            "",
            "| measure | value [95 % interval] |",
            "|---|---|",
            f"| Pearson | {shown(self.pearson)} |",
            f"| Spearman | {shown(self.spearman)} |",
            f"| AUC of {self.first} at {self.second} ≥ {TOXIC} | {shown(self.first_auc)} |",
            f"| AUC of {self.second} at {self.first} ≥ {TOXIC} | {shown(self.second_auc)} |",
            f"| mean difference, first minus second | {shown(self.difference)} |",
            "",
            f"| {self.first} from … to | texts | {self.second}: median | middle half |",
            "|---|---:|---:|---|",
            *(
                f"| {step.low:.1f} … {step.high:.1f} | {step.n:,} | {step.median:.3f} "
                f"| {step.quarter:.3f} … {step.three_quarters:.3f} |"
                for step in self.steps
            ),
        ]
        return "\n".join(lines)


def agreement(
    first: str, second: str, a: Sequence[float | None], b: Sequence[float | None], rng: np.random.Generator
) -> Agreement:
    """What two lists of scores of the same texts have in common."""
    both = paired(a, b)
    x, y = both
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise NothingToRelate(
            f"{len(x)} texts have scores from both {first} and {second}, with {len(np.unique(x))} and "
            f"{len(np.unique(y))} different values. Give more texts, with differing scores."
        )
    n = len(x)
    return Agreement(
        first, second, len(a) - n,
        correlation(pearson, x, y), correlation(spearman, x, y), estimate_mean(x - y, rng), ranked(x, y), ranked(y, x),
        tuple(steps(x, y)),
    )  # fmt: skip


def paired(a: Sequence[float | None], b: Sequence[float | None]) -> Float[np.ndarray, "2 text"]:
    """The scores of those texts that have both."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2).T


def correlation(of: Correlation, x: Scores, y: Scores, clusters: Clusters | None = None) -> Estimate:
    """Pearson's or Spearman's r of texts: Fisher's interval below 60 clusters, a bootstrap's from there on."""
    numbers = np.arange(len(x)) if clusters is None else clusters
    n_clusters = len(np.unique(numbers))
    if n_clusters >= SMALL:
        return resampled(lambda rows: of(x[rows], y[rows]), numbers, DRAWS)
    r = of(x, y)
    if n_clusters < 4 or abs(r) > 1 - 1e-9:  # where Fisher's interval has infinite width, or none
        return Estimate(r, None, len(x))
    ends = np.tanh(np.arctanh(r) + Z / np.sqrt(n_clusters - 3) * np.array([-1, 1]))
    return Estimate(r, (float(ends[0]), float(ends[1])), len(x))


def pearson(x: Scores, y: Scores) -> float:
    """NaN where one of the two does not vary."""
    with np.errstate(invalid="ignore"):
        return float(np.corrcoef(x, y)[0, 1])


def spearman(x: Scores, y: Scores) -> float:
    """Pearson's r of ranks, equal ones in the middle."""
    return pearson(rankdata(x), rankdata(y))


def ranked(scores: Scores, judge: Scores) -> Estimate | None:
    """AUC of scores where another scorer decides what is toxic."""
    toxic = judge >= TOXIC
    return auc(scores, toxic) if toxic.any() and not toxic.all() else None


def steps(x: Scores, y: Scores) -> list[Step]:
    """The middle half of y in each tenth of x."""
    step = np.minimum((x * STEPS + 1e-9).astype(int), STEPS - 1)
    found = []
    for i in np.unique(step).tolist():
        here = y[step == i]
        quarter, median, three_quarters = (float(np.quantile(here, share)) for share in (0.25, 0.5, 0.75))
        found.append(Step(i / STEPS, (i + 1) / STEPS, len(here), quarter, median, three_quarters))
    return found


def shown(estimate: Estimate | None) -> str:
    return "—" if estimate is None else f"{estimate:.3f}"


def picture(found: Agreement, a: Sequence[float | None], b: Sequence[float | None]) -> Callable[[str], bytes]:
    """Every text as one point of a density, and the medians that carry one scale to the other; "png" or "svg"."""

    def drawn(kind: str) -> bytes:
        undated = {"Date": None} if kind == "svg" else {}
        return draw_file(lambda: _figure(found, *paired(a, b)), kind, undated, {"svg.fonttype": "none"})

    return drawn


def _figure(found: Agreement, x: Float[np.ndarray, " text"], y: Float[np.ndarray, " text"]) -> Any:
    figure = empty_figure(6.4, 5.6)
    axes = figure.subplots()
    dense = axes.hexbin(x, y, gridsize=40, extent=(0, 1, 0, 1), bins="log", mincnt=1, cmap="Blues", linewidths=0.2)
    figure.colorbar(dense, label="texts (log scale)")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":", label="equal scores")
    middle = [(step.low + step.high) / 2 for step in found.steps]
    median = np.array([step.median for step in found.steps])
    spread = np.array([[step.median - step.quarter, step.three_quarters - step.median] for step in found.steps]).T
    axes.errorbar(middle, median, spread, color="#d55e00", marker="o", label="median and middle half")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_xlabel(f"{found.first} (score, 0 to 1)", parse_math=False)
    axes.set_ylabel(f"{found.second} (score, 0 to 1)", parse_math=False)
    axes.set_title(f"Pearson {found.pearson}\nSpearman {found.spearman}", fontsize=9)
    axes.legend(loc="upper left", fontsize=8)
    return figure
