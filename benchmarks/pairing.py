"""How much a comparison gains from drawing the same random numbers for both strengths.

python -m benchmarks.pairing checkpoints/demo-10

A difference between plain and steered text is estimated twice: on the same samples, whose noise is common, and on
samples of their own. Both estimates are unbiased; how many more texts the second one needs is the ratio of variances.
The measure of a text is how surprised the plain model is by it, in nats per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from lens import Lens, open_lens
from lens.terminal import run_function
from probes.differences import middle_95
from probes.estimate import Estimate
from steering import Doses, Plan, Row, Sampling, fit, generate

ROOT = Path(__file__).parent.parent
RESAMPLES = 2000
PROMPTS = (
    "The people next door are",
    "When the new family moved in, everyone",
    "The comments under the video said that",
    "Water flows from the mountains",
    "The teacher explained that",
    "Every morning the ferry",
)


@dataclass(frozen=True)
class Saving:
    """At one strength."""

    strength: float
    difference: float
    """Mean of steered minus plain, on the same samples."""
    ratio: Estimate
    """Variance of the difference on samples of their own over that on the same samples; bootstrap over pairs."""


def surprisal(lens: Lens, doses: Doses, samples: range, sampling: Sampling) -> np.ndarray:
    """Nats per token of the plain model, for each prompt and sample; empty texts are not a number."""
    rows = [Row(prompt, doses, sample) for prompt in PROMPTS for sample in samples]
    texts = [text for begin in range(0, len(rows), 64) for text in generate(lens, rows[begin : begin + 64], sampling)]
    found = []
    for row, text in zip(rows, texts, strict=True):
        prompt = lens.encode(row.prompt)
        logits = lens.plain_logits(torch.tensor([[*prompt, *text.tokens]], device=lens.device))[0].log_softmax(-1)
        own = logits[len(prompt) - 1 : -1].gather(-1, torch.tensor(text.tokens, device=lens.device).long()[:, None])
        found.append(-own.mean().item())
    return np.array(found)


def saving(plain: np.ndarray, same: np.ndarray, others: np.ndarray, strength: float, seed: int) -> Saving:
    """The ratio of variances with its bootstrap interval."""
    paired, apart = same - plain, others - plain
    whole = np.isfinite(paired) & np.isfinite(apart)
    paired, apart = paired[whole], apart[whole]
    rows = np.random.default_rng(seed).integers(len(paired), size=(RESAMPLES, len(paired)))
    interval = middle_95(apart[rows].var(axis=1) / paired[rows].var(axis=1))
    ratio = Estimate(float(apart.var() / paired.var()), interval, len(paired))
    return Saving(strength, float(paired.mean()), ratio)


def main(
    checkpoint: tyro.conf.Positional[Path] = ROOT / "checkpoints" / "demo-10",
    strengths: tuple[float, ...] = (0.5, 1, 2, 4, 8),
    samples: int = 100,
    max_tokens: int = 20,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Measure and print.

    Args:
        checkpoint: A folder with probes.
        strengths: Of the default plan, in standard deviations.
        samples: Texts on each of six prompts.
        max_tokens: Tokens of each text.
        seed: Of the texts and of the bootstrap.
        threads: CPU threads.
    """
    lens, sampling = open_lens(str(checkpoint), threads=threads), Sampling(max_tokens=max_tokens, seed=seed)
    iti, here, there = fit(Plan(), lens), range(samples), range(samples, 2 * samples)
    plain = surprisal(lens, (), here, sampling)
    print(f"{lens.checkpoint.name}, {len(plain)} pairs of {max_tokens} tokens, {iti.plan}, seed {seed}\n")
    print("| sigmas | steered − plain (nats per token) | variance: own samples ÷ the same |\n|---:|---:|---:|")
    for strength in strengths:
        same, others = (surprisal(lens, iti.at(strength), chosen, sampling) for chosen in (here, there))
        found = saving(plain, same, others, strength, seed)
        print(f"| {strength:g} | {found.difference:+.3f} | {found.ratio} |")


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
