"""Chance in common: exact samples, the same ones in every process, and comparisons that profit from it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch
from scipy.stats import chisquare
from test_steering import DIRECTIONS, steering

from lens import Lens
from steering import Row, Sampling, generate

PROMPT, OTHER = "The people next door are", "A small garden needs sun, water"
OPEN = Sampling(temperature=1, top_p=1, max_tokens=1)


def firsts(lens: Lens, rows: list[Row], sampling: Sampling = OPEN) -> list[int]:
    """The first token of each text; -1 where it ended at once."""
    return [next(iter(text.tokens), -1) for text in generate(lens, rows, sampling)]


def fit_of(lens: Lens, found: list[int], logits: torch.Tensor) -> float:
    """P-value of the chi-square test that tokens come from the model's distribution; rare tokens are one class."""
    p = logits.masked_fill(~lens.real_tokens, -torch.inf).double().softmax(-1)
    ids = torch.tensor([lens.eos if token < 0 else token for token in found])
    counts, expected = torch.bincount(ids, minlength=len(p)).double(), p * len(found)
    common = expected >= 5
    observed = [*counts[common].tolist(), float(counts[~common].sum())]
    return float(chisquare(observed, [*expected[common].tolist(), float(expected[~common].sum())]).pvalue)


def test_a_thousand_samples_match_the_model_s_distribution(lens: Lens) -> None:
    ids = torch.tensor([lens.encode(PROMPT)])
    plain = lens.plain_logits(ids)[0, -1]
    found = firsts(lens, [Row(PROMPT, (), sample) for sample in range(1000)])
    assert fit_of(lens, found, plain) > 0.001
    assert fit_of(lens, found, plain / 1.5) < 1e-6  # and no other one


def test_different_prompts_get_different_noise(lens: Lens) -> None:
    """Where both prompts were followed by one distribution, their samples would still not agree more than by chance."""
    flat = Sampling(temperature=1000, top_p=1, max_tokens=1)
    mine, others = (firsts(lens, [Row(p, (), k) for k in range(300)], flat) for p in (PROMPT, OTHER))
    same = np.mean([one == other for one, other in zip(mine, others, strict=True)])
    assert same < 0.05  # 1 in 293 by chance; all of them with noise in common


def test_another_process_writes_the_same_text(lens: Lens) -> None:
    code = (
        "import sys; from lens import open_lens; from steering import Row, Sampling, generate;"
        "lens = open_lens(sys.argv[1], device='cpu', threads=1);"
        "print([text.tokens for text in generate(lens, [Row(sys.argv[2], (), k) for k in (0, 1)], Sampling(seed=5))])"
    )
    words = [sys.executable, "-c", code, str(lens.checkpoint.folder), PROMPT]
    elsewhere = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    here = generate(lens, [Row(PROMPT, (), k) for k in (0, 1)], Sampling(seed=5))
    assert elsewhere == f"{[text.tokens for text in here]}\n"


def test_noise_in_common_saves_variance_in_a_paired_comparison(lens: Lens) -> None:
    """The difference of two strengths on the same samples varies less than on samples of their own."""
    ours, n = steering(lens, DIRECTIONS).at(1), 200
    sampling = Sampling(max_tokens=6)
    lengths = [
        np.array([len(text.text) for text in generate(lens, rows, sampling)])
        for rows in (
            [Row(PROMPT, (), k) for k in range(n)],
            [Row(PROMPT, ours, k) for k in range(n)],
            [Row(PROMPT, ours, n + k) for k in range(n)],
        )
    ]
    plain, paired, apart = lengths
    assert np.var(paired - plain) < 0.8 * np.var(apart - plain)
