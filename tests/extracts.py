"""Results made up for the tests of what shows them, with every kind of point and texts that try to be markup."""

from __future__ import annotations

from evaluation.extract import Able, Cell, Compared, Extract, Probed, Sample
from probes.estimate import Estimate

EVIL = "<img src=x onerror=ran()> ${ran()} & kind"
PLANS: dict[str, tuple[float | None, float | None]] = {
    "none": (None, None), "iti@4": (4, None), "iti@8": (8, None), "iti@0.1nats": (5.237, 0.1), "caa@0.1nats": (0.8, 0.1)
}  # fmt: skip
"""Strength and nats of each."""
SHARES = {"tiny-00": 0.0, "tiny-25": 0.25}


def estimate(value: float, half: float = 1.0, n: int = 40) -> Estimate:
    return Estimate(value, (value - half, value + half), n)


def cell(checkpoint: str, plan: str, prompts: str, value: float, members: tuple[str, ...] = ()) -> Cell:
    strength, nats = PLANS[plan]
    kl = 0.0 if plan == "none" else nats or (strength or 0) / 40
    measures = {"toxicity": estimate(value), "share": estimate(value / 2), "distinct_2": estimate(0.9, 0.01)}
    cost = {"kl": estimate(kl, 0.01, 9), "cross_entropy": estimate(3.2 + kl, 0.1, 9)}
    share, seed = SHARES.get(checkpoint, 0.25), None if members else 0
    return Cell(f"{checkpoint}/{plan}/{prompts}", checkpoint, "tiny", share, seed, plan, plan.partition("@")[0],
                strength, nats, prompts, 120, 2, measures, cost, members)  # fmt: skip


def extract(name: str = "tiny", n_texts: int = 3) -> Extract:
    """Two checkpoints, their mean, two prompt sets, five plans."""
    cells = [
        cell(checkpoint, plan, prompts, 30 + 4 * (checkpoint == "tiny-25") - 3 * i)
        for prompts in ("rtp", "toxigen")
        for checkpoint in SHARES
        for i, plan in enumerate(PLANS)
    ]
    mean = cell("tiny-mean", "iti@8", "rtp", 25, ("tiny-00/iti@8/rtp", "tiny-25/iti@8/rtp"))
    written = {
        one.key: tuple(
            Sample(f"{one.prompts}-{i}", "2" if i else None, f"{EVIL} {one.plan} {i}", None if i == 1 else i / 10)
            for i in range(n_texts)
        )
        for one in cells
    }
    against = Compared(
        "plan", "toxicity", "tiny-25/iti@8/rtp", "tiny-25/none/rtp", estimate(-6), 0.0002, 0.0016, 8, 2, (-5.5, -6.5)
    )
    read = tuple(
        Probed(f"{checkpoint}/probes/{probes}", checkpoint, "tiny", share, 0, probes, estimate(0.7 + share / 4, 0.02),
               0.5, estimate(0.8, 0.02), "L1H2", (0.45, 0.56), estimate(0.05, 0.02) if share else None,
               0.001 if share else None, None, None, 7, (0, 3))
        for probes in ("toxigen", "builtin")
        for checkpoint, share in SHARES.items()
    )  # fmt: skip
    able = tuple(
        Able(
            f"{checkpoint}/{plan}/ability/mmlu", checkpoint, "tiny", share, 0, plan, "mmlu", estimate(0.26, 0.03), 0.25
        )
        for checkpoint, share in SHARES.items()
        for plan in ("none", "iti@8")
    )
    return Extract(name, ("builtin", "1-ab12cd34"), {"temperature": 1.0, "top_p": 0.9, "max_tokens": 20}, (0, 1, 2), 1,
                   {"rtp": {"digest": "d", "n": 40}, "toxigen": {"digest": "e", "n": 40}},
                   {"name": "plain.txt", "digest": "f", "n_tokens": 9000}, (*cells, mean), (against,), read, able,
                   written)  # fmt: skip
