"""Sampling: exact, repeatable, and with noise that steering does not touch."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from scipy.stats import chisquare, kstest

import steering.sampling
from steering.sampling import Sampling, gumbel, next_tokens

LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.0, 0.9, -1.0, 1.4])
N = 4000


def drawn(how: Sampling, logits: torch.Tensor = LOGITS, prompt: tuple[int, ...] = (5, 6)) -> torch.Tensor:
    """How often each token is drawn, over samples and steps."""
    noise = torch.stack(
        [gumbel(how.seed, prompt, sample, step, len(logits)) for sample in range(N // 40) for step in range(40)]
    )
    return torch.bincount(next_tokens(logits.expand(N, -1), noise, how), minlength=len(logits))


def top_p_by_sorting(logits: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """The distribution that a textbook computes: temperature, sort, cut, renormalise."""
    p, order = (logits / temperature).softmax(-1).sort(descending=True)
    p[p.cumsum(-1) - p >= top_p] = 0
    return torch.zeros_like(p).scatter(0, order, p / p.sum())


def p_value(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """Of the chi-square test that the counts come from the expected distribution."""
    share = expected[expected > 0].double()
    return float(chisquare(counts[expected > 0].numpy(), (N * share / share.sum()).numpy()).pvalue)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (1.0, 0.9), (0.7, 0.8), (1.6, 0.5)])
def test_tokens_come_as_often_as_their_probability_says(temperature: float, top_p: float) -> None:
    counts = drawn(Sampling(temperature, top_p))
    expected = top_p_by_sorting(LOGITS, temperature, top_p)
    assert not counts[expected == 0].any()
    assert p_value(counts, expected) > 0.001


def test_a_wrong_temperature_would_be_noticed() -> None:
    counts = drawn(Sampling(1.0, 1.0))
    assert p_value(counts, top_p_by_sorting(LOGITS, 1.3, 1.0)) < 1e-6


def test_the_winner_is_the_best_inside_the_sorted_top_p_set() -> None:
    logits = torch.randn(50, 101, generator=torch.Generator().manual_seed(0)) * 3
    noise = torch.stack([gumbel(1, (7,), 0, step, 101) for step in range(50)])
    for top_p in (0.05, 0.3, 0.9):
        chosen = next_tokens(logits, noise, Sampling(0.8, top_p))
        for row, token in enumerate(chosen.tolist()):
            inside = top_p_by_sorting(logits[row], 0.8, top_p) > 0
            assert token == int((logits[row] / 0.8 + noise[row]).masked_fill(~inside, -math.inf).argmax())


@pytest.mark.parametrize("at_once", [1, 101, 3 * 101, 8 * 101])
def test_rows_are_drawn_alike_however_many_are_gone_over_at_once(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(24, 101, generator=torch.Generator().manual_seed(0)) * 3
    noise = torch.stack([gumbel(1, (7,), 0, step, 101) for step in range(4)])  # six rows after one another share one
    expected = next_tokens(logits, noise.repeat_interleave(6, dim=0), Sampling(0.8, 0.5))
    monkeypatch.setattr(steering.sampling, "AT_ONCE", at_once)
    assert torch.equal(next_tokens(logits, noise, Sampling(0.8, 0.5)), expected)


def test_a_token_behind_just_top_p_of_the_others_is_left_out() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().repeat(200, 1)
    noise = torch.stack([gumbel(0, [row], 0, 0, 3) for row in range(200)])

    def drawn(top_p: float) -> set[int]:
        return set(next_tokens(logits, noise, Sampling(top_p=top_p)).tolist())

    assert [drawn(top_p) for top_p in (0.4995, 0.5005, 0.7995, 0.8005)] == [{0}, {0, 1}, {0, 1}, {0, 1, 2}]


def test_temperature_zero_takes_the_most_probable_token() -> None:
    assert next_tokens(LOGITS[None], None, Sampling(temperature=0)).tolist() == [0]


def test_noise_is_standard_gumbel() -> None:
    noise = gumbel(3, (1, 2, 3), 0, 0, 50_000)
    assert noise.isfinite().all()
    assert kstest(noise.numpy(), "gumbel_r").pvalue > 0.001


def test_every_part_of_the_name_changes_the_noise_and_nothing_else_does() -> None:
    base = gumbel(0, (1, 2), 0, 0, 1000)
    assert torch.equal(base, gumbel(0, [1, 2], 0, 0, 1000))
    others = [gumbel(1, (1, 2), 0, 0, 1000), gumbel(0, (1, 3), 0, 0, 1000), gumbel(0, (12,), 0, 0, 1000)]
    others += [gumbel(0, (1, 2), 1, 0, 1000), gumbel(0, (1, 2), 0, 1, 1000), gumbel(0, (1, 2, 0), 0, 0, 1000)]
    for other in others:
        assert torch.isin(other, base).float().mean() < 0.05  # not the same numbers at other places either
        assert abs(torch.corrcoef(torch.stack([base, other]))[0, 1]) < 0.15  # 4.7 standard deviations of chance
    assert torch.equal(gumbel(0, (1, 2), 0, 0, 301), base[:301])  # a larger vocabulary continues the noise


def test_another_process_draws_the_same_noise() -> None:
    code = "from steering.sampling import gumbel; print(gumbel(7, (3, 1), 2, 5, 9).tolist())"
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert elsewhere == f"{gumbel(7, (3, 1), 2, 5, 9).tolist()}\n"


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -0.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"top_p": math.nan},
        {"max_tokens": 0},
    ],
)
def test_nonsense_is_refused_with_a_sentence(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(bad))} is .*; got "):
        Sampling(**bad)  # type: ignore[arg-type]
