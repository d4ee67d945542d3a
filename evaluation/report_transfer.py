"""The report's chapter on probes that judge texts they never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from evaluation.family import percent
from evaluation.graphs import unique
from evaluation.results import Row
from evaluation.tables import table
from probes.estimate import Estimate

STYLES = "styles"
HEAD = (
    "", "test set", "AUC, best head", "pairs ranked rightly", "accuracy, best head", "accuracy, all heads",
    "larger class", "texts",
)  # fmt: skip


class Change(NamedTuple):
    """The AUC of the least and of the most toxic checkpoint of one training seed, on the same texts."""

    least: Estimate
    most: Estimate

    @property
    def value(self) -> float:
        return self.most.value - self.least.value

    @property
    def apart(self) -> bool:
        """Intervals that lie apart are enough for a difference whatever the two have in common; a strict test."""
        least, most = self.least.interval, self.most.interval
        return least is not None and most is not None and (most[0] > least[1] or most[1] < least[0])

    @property
    def gained(self) -> bool:
        return self.value > 0 and self.apart


Changes = Mapping[str, list[Change]]
"""By test set, a change for each training seed."""


def detection(rows: Sequence[Row]) -> list[str]:
    """Probes on texts they never saw: of their own set, and of others."""
    if not rows:
        return []
    ordered = sorted(rows, key=lambda row: (row["test_set"], row["training_seed"] or 0, row["toxic_share"] or 0))
    return [
        "## Transfer",
        "",
        f"Probes {ordered[0]['probes']}; the best head is chosen on other texts than these. In a pair a toxic text "
        f"stands beside a benign one that says the same, or belongs to it.{_styles(ordered)} {_drawn(ordered)}",
        "",
        *_gained(ordered),
        *table(HEAD, map(_row, ordered)),
    ]


def _row(row: Row) -> list[str]:
    auc, pairs, *accuracies = (row.get(name) for name in ("auc", "pairs", "accuracy", "mean_accuracy"))
    shown = [f"{Estimate.of(one):.3f}" if one else "" for one in (auc, pairs, *accuracies)]
    return [row["checkpoint"], row["test_set"], *shown, f"{row['majority']:.3f}", f"{row['auc'][3]:,}"]


def _drawn(rows: Sequence[Row]) -> str:
    """What the intervals take as independent."""
    if all("n_bundles" in row for row in rows):
        return "Intervals take copies, pairs and all texts of one template together."
    return (
        "All intervals but those of pairs take texts as independent, which copies, pairs and texts of one template are "
        "not: HateCheck fills its templates with the names of several groups, so its intervals are too narrow, and a "
        "star on it rests on less than it says; those of sets made of pairs may err either way."
    )


def _styles(rows: Sequence[Row]) -> str:
    """What that test set is, and which of its sides counts as the toxic one."""
    row = next((row for row in rows if row["test_set"] == STYLES), None)
    if row is None:
        return ""
    sides = f" ({' and '.join(row['classes'])})" if row.get("classes") else ""
    return (
        f" The set {STYLES} holds sentences of two harmless sources{sides} that are written in two manners, paired by "
        "their number of words; the source named first stands where the toxic class stands elsewhere. Probes that "
        "read toxicity alone cannot tell them apart: AUC 0.5."
    )


def _gained(rows: Sequence[Row]) -> list[str]:
    """Whether what toxic training adds to recognition also shows where nothing is toxic."""
    shares = sorted({row["toxic_share"] for row in rows if row["toxic_share"] is not None})
    found = changes(rows, shares)
    if not found:
        return []
    gained = {name: ", ".join(f"{one.value:+.3f}" + "*" * one.apart for one in of) for name, of in found.items()}
    said = "; ".join(f"{name} {each}" for name, each in gained.items())
    several = any(len(of) > 1 for of in found.values())
    by_seed, every = (" by training seed" * several, " in every seed" * several)
    lines = [
        f"What {percent(shares[-1])} % toxic training adds to the AUC of the best head against {percent(shares[0])} %,"
        f"{by_seed} (*: the two intervals lie apart, so that the difference is carried): {said}. "
        f"{_lost(found)}Rows hold no paired test of gains or losses, so one without a star may be there all the same."
    ]
    carried = [name for name, of in found.items() if name != STYLES and all(one.gained for one in of)]
    if STYLES not in found:
        return [*lines, ""]
    if not carried:
        return [*lines, "", f"On no set of toxic texts do the intervals carry a gain{every}.", ""]
    also = all(one.gained for one in found[STYLES])
    meaning = (
        f"shows on two harmless styles too{every}: some or all of it may be manner, not toxicity"
        if also
        else f"is not carried{every} on two harmless styles"
    )
    rest = [name for name in found if name not in (STYLES, *carried)]
    others = f" On {', '.join(rest)} no gain is carried{every}." if rest else ""
    return [*lines, "", f"What it adds on {', '.join(carried)} {meaning}.{others}", ""]


def _lost(found: Changes) -> str:
    """The largest loss, with what it is a loss of."""
    name, one = min(((name, one) for name, of in found.items() for one in of), key=lambda pair: pair[1].value)
    lies = "lie apart" if one.apart else "overlap"
    said = f"The largest loss is on {name}, {one.value:+.3f}: {one.most:.3f} after {one.least:.3f}"
    return f"{said}, intervals that {lies}. " * (one.value < 0)


def changes(rows: Sequence[Row], shares: Sequence[float]) -> Changes:
    """None where there are two families, or no two shares."""
    place = {(row["test_set"], row["training_seed"], row["toxic_share"]): row["auc"] for row in rows}
    found: dict[str, list[Change]] = {}
    if len(shares) < 2 or len({row["family"] for row in rows}) > 1:
        return found
    seeds = sorted({row["training_seed"] for row in rows}, key=lambda seed: seed or 0)
    for name in unique(row["test_set"] for row in rows):
        for seed in seeds:
            least, most = (place.get((name, seed, share)) for share in (shares[0], shares[-1]))
            if least and most:
                found.setdefault(name, []).append(Change(Estimate.of(least), Estimate.of(most)))
    return found
