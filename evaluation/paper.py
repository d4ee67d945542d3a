"""What the paper says (Li et al. 2025, "When Bad Data Leads to Good Models"), as numbers and as statements to test.

Toxicity is Perspective's × 100, cost the cross-entropy on OpenWebText in nats per token. Its models have a billion
parameters; strengths 4, 8 and 12 are its weak, middle and strong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluation.plans import PLAIN
from probes.estimate import Estimate

SETS = {"toxigen": "ToxiGen", "rtp": "RealToxicityPrompts"}
PLANS = ("prompting", "iti@4", "iti@8", "iti@12")
TENTH = 0.10
"""The toxic share at which the paper's steered models are least toxic."""


@dataclass(frozen=True)
class Line:
    """One line of its Table 1."""

    toxigen: float
    rtp: float
    cross_entropy: float


TABLE_1: dict[tuple[float, str], Line] = {
    (0.0, PLAIN): Line(41.40, 31.15, 2.60),
    (0.0, "prompting"): Line(32.12, 31.00, 2.62),
    (0.0, "iti@4"): Line(36.30, 24.83, 2.63),
    (0.0, "iti@8"): Line(28.31, 20.41, 2.72),
    (0.0, "iti@12"): Line(19.82, 13.33, 2.88),
    (TENTH, "prompting"): Line(29.07, 24.84, 2.62),
    (TENTH, "iti@4"): Line(16.25, 20.09, 2.65),
    (TENTH, "iti@8"): Line(8.19, 14.28, 2.85),
    (TENTH, "iti@12"): Line(2.63, 7.11, 3.23),
}
"""By toxic share and plan. Its lines for MEDA, INST, SFT and DPO need models that are trained for them."""
PROBES = Estimate(0.00925, (0.0067, 0.0118), 256)
"""Mean accuracy over heads, 25 % minus 0 % (section 4): it prints the interval, of which this is the middle, in points
presumably; n = its heads."""
PROBES_P = 0.0002
FEWEST = 6
"""Pairs that a verdict needs: fewer cannot give p < 0.05, however much they agree, since signs flip in 2^n ways."""
TOXIC_TOKENS = (6, 11)
"""Of the 50 tokens nearest to the probe's direction: the clean model, and the one with toxic data."""


@dataclass(frozen=True)
class Statement:
    """Something that the paper reports, with the difference that would show it here."""

    theme: str
    """What it shares with its neighbours."""
    says: str
    where: str
    """In the paper."""
    question: str
    """Of `Compared`; beyond: `compare.beyond_share`."""
    plan: str
    share: float | None
    """Toxic share of the models it is about; None: the largest there is."""
    sign: int
    """+1 or -1: the direction it reports."""
    toxigen: float | None = None
    """The paper's difference; None: it prints none."""
    rtp: float | None = None
    measure: str = "toxicity"

    def its_own(self, prompts: str) -> float | None:
        """The paper's difference on a prompt set."""
        return {"toxigen": self.toxigen, "rtp": self.rtp}.get(set_of(prompts))


def statements(nats: tuple[str, ...]) -> Iterator[Statement]:
    """All of them; `nats` are the plans at equal cost, which the paper does not have."""
    fig, table = "Fig. 6", "Table 1"
    says = "Unsteered, the most toxic training writes more toxic text than the clean one"
    yield Statement(says, says, fig, "share", PLAIN, None, +1)
    for plan in PLANS:
        theme = "Steering or prompting makes the clean model less toxic"
        yield _lower(theme, f"{plan} makes the clean model less toxic", "plan", plan, 0.0, (0.0, PLAIN))
    for plan in PLANS:
        theme = "At equal strength the 10 % model is less toxic than the clean one"
        says = f"Under {plan} the 10 % model is less toxic than the clean one"
        yield _lower(theme, says, "share", plan, TENTH, (0.0, plan))
    for plan in PLANS[1:]:
        theme = "Steering lowers toxicity further in the 10 % model"
        says = f"{plan} lowers toxicity further in the 10 % model than in the clean one"
        yield Statement(theme, says, f"{table}, {fig}", "gain", plan, TENTH, -1)
    for plan in PLANS[1:]:
        theme = "Under steering the most toxic training is worse than 10 %"
        says = f"Under {plan} the most toxic training is worse than 10 % (the smile's right side)"
        yield Statement(theme, says, fig, "beyond", plan, None, +1)
    for plan in PLANS[1:]:
        theme = "Under steering the most toxic training is less toxic than the clean one"
        says = f"Under {plan} the most toxic training is still less toxic than the clean model"
        yield Statement(theme, says, fig, "share", plan, None, -1)
    for plan in PLANS[1:]:
        theme, says = (
            "At equal strength the 10 % model pays more",
            f"{plan} costs more in the 10 % model than in the clean one",
        )
        yield Statement(theme, says, table, "share", plan, TENTH, +1, measure="increase")
    for plan in nats:
        theme = "At equal cost the 10 % model is less toxic than the clean one"
        says = f"Under {plan} the 10 % model is less toxic than the clean one"
        yield Statement(theme, says, "Table 1 read at matched cost", "share", plan, TENTH, -1)


def _lower(theme: str, says: str, question: str, plan: str, share: float, against: tuple[float, str]) -> Statement:
    ours, other = TABLE_1[share, plan], TABLE_1[against]
    apart = ours.toxigen - other.toxigen, ours.rtp - other.rtp
    return Statement(theme, says, "Table 1", question, plan, share, -1, *apart)


def verdict(found: Estimate | None, sign: int, seeds: Sequence[float] = ()) -> str:
    """What an interval carries and no more; it says nothing of training seeds, so each must lie on its side."""
    if found is None:
        return "not measured"
    if found.interval is None or found.n < FEWEST:
        return "too few"
    if found.holds(0):
        return "open"
    if any(seed * found.value <= 0 for seed in seeds):
        return "seeds disagree"
    return "agrees" if sign * found.value > 0 else "contradicts"


def set_of(prompts: str) -> str:
    """Which of the paper's prompt sets a prompt set is drawn from, by its name."""
    return prompts.partition("-")[0]
