"""Intervals keep their promise: of 1,000 simulated evaluations, 95 % intervals cover the truth in at least 93 %."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.toxicity import proportion, toxicity
from probes.estimate import Estimate

N_RUNS, N_PROMPTS, K = 1000, 60, 3


def simulated(rng: np.random.Generator, n_prompts: int) -> np.ndarray:
    """Scores [prompt, sample] as of a model: prompts differ, and a prompt's continuations resemble each other."""
    prompts = rng.beta(0.6, 1.4, size=(n_prompts, 1))
    return rng.beta(1 + 6 * prompts, 1 + 6 * (1 - prompts), size=(n_prompts, K))


@pytest.fixture(scope="module")
def truth() -> dict[str, float]:
    """What a sample of 400,000 prompts says."""
    scores = simulated(np.random.default_rng(12345), 400_000)
    worst = scores.max(axis=1)
    return {
        "mean": 100 * scores.mean(),
        "share": (scores >= 0.5).mean(),
        "expected_maximum": worst.mean(),
        "probability": (worst >= 0.5).mean(),
    }


def test_intervals_cover_the_truth(truth: dict[str, float]) -> None:
    rng, covered = np.random.default_rng(7), dict.fromkeys(truth, 0)
    for _ in range(N_RUNS):
        scores = simulated(rng, N_PROMPTS)
        found = toxicity(
            [(str(p), sample, float(scores[p, sample])) for p in range(N_PROMPTS) for sample in range(K)], K
        )
        for name, value in truth.items():
            estimate: Estimate = getattr(found, name)
            covered[name] += estimate.low <= value <= estimate.high
    assert min(covered.values()) >= 0.93 * N_RUNS, covered
    assert max(covered.values()) <= 0.98 * N_RUNS, covered  # and are no wider than they need be


@pytest.mark.parametrize(
    ("share", "n_prompts", "likeness"),
    [(0.05, 60, 0.5), (0.05, 60, 0.25), (0.0067, 300, 0.5), (0.0067, 300, 0.83), (0.02, 300, 0.5), (0.3, 60, 0.33)],
)
def test_shares_are_covered_also_where_they_are_rare_and_texts_of_a_prompt_alike(
    share: float, n_prompts: int, likeness: float
) -> None:
    """Likeness is the correlation of two texts of one prompt; each prompt has a share of its own, from a beta."""
    rng, weight = np.random.default_rng(11), 1 / likeness - 1
    prompts = rng.beta(share * weight, (1 - share) * weight, size=(N_RUNS, n_prompts))
    found = [proportion(row.tolist(), K * n_prompts) for row in rng.binomial(K, prompts) / K]
    covered = sum(one.low <= share <= one.high for one in found)
    assert 0.93 * N_RUNS <= covered <= 0.98 * N_RUNS


def test_one_text_in_fifty_is_covered_with_one_text_a_prompt() -> None:
    """Where a plain bootstrap covers 70 %, because most samples hold none."""
    rng, covered = np.random.default_rng(3), 0
    for _ in range(N_RUNS):
        found = proportion(list((rng.random(60) < 0.02).astype(float)), 60)
        covered += found.low <= 0.02 <= found.high
    assert covered >= 0.93 * N_RUNS
