"""A direction finds the tokens that lie along it, and rows of no token are never found."""

from __future__ import annotations

import pytest
import torch
from conftest import N_TOKENS
from torch.testing import assert_close

from lens import Head, Lens, cosines, gather, head_to_residual, nearest_tokens, random_nearest


def test_a_tokens_own_row_is_nearest_to_it_at_any_length(lens: Lens):
    for token in (5, 100, N_TOKENS - 1):
        for length in (1e-3, 1.0, 1e3):
            first = nearest_tokens(lens, lens.W_U[token] * length, n=3)[0]
            assert (first.id, first.text) == (token, lens.decode([token]))
            assert first.cosine == pytest.approx(1, abs=1e-6)


def test_rows_of_no_token_are_never_near(lens: Lens):
    dead = lens.W_U[N_TOKENS + 2]
    found = nearest_tokens(lens, dead, n=10_000)
    assert sorted(token.id for token in found) == list(range(N_TOKENS))
    assert found[0].cosine < 0.99


def test_cosines_are_those_of_torch_and_in_order(lens: Lens):
    direction = torch.randn(lens.d_model, generator=torch.Generator().manual_seed(3))
    expected = torch.cosine_similarity(direction[None], lens.W_U, dim=-1)  # another road
    assert_close(cosines(lens, direction[None])[0, :N_TOKENS], expected[:N_TOKENS], rtol=0, atol=1e-6)
    found = nearest_tokens(lens, direction, n=20)
    assert [token.id for token in found] == expected[:N_TOKENS].argsort(descending=True)[:20].tolist()


def test_the_random_baseline_is_random_and_repeatable(lens: Lens):
    lists = random_nearest(lens, n=5, seed=1, draws=7)
    assert [len(tokens) for tokens in lists] == [5] * 7
    assert lists == random_nearest(lens, n=5, seed=1, draws=7)
    assert lists != random_nearest(lens, n=5, seed=2, draws=7)
    assert lists[0] != lists[1]


def test_a_planted_token_is_found_through_its_head(lens: Lens):
    """The direction of a head that W_O sends as close to a token as it can get finds that token."""
    head, token = Head(2, 1), 120
    unit = torch.linalg.lstsq(lens.W_O(2)[1].T, lens.W_U[token]).solution
    sent = head_to_residual(lens, head, unit)
    assert token in [near.id for near in nearest_tokens(lens, sent, n=20)]
    wrong_head = head_to_residual(lens, Head(2, 2), unit)
    assert cosines(lens, sent[None])[0, token] > cosines(lens, wrong_head[None])[0, token] + 0.1


def test_a_heads_direction_is_what_the_norm_passes_on(lens: Lens):
    """Another road: the derivative of the final norm itself, where the residual stream has no part along the push."""
    unit = torch.randn(6, generator=torch.Generator().manual_seed(4))
    written = unit @ lens.W_O(2)[3]
    residual = gather(lens, ["The people next door"], [True], ["a"]).residual[0, 2]
    centred = written - written.mean()
    across = residual - (residual @ centred) / (centred @ centred) * centred
    _, passed_on = torch.func.jvp(lens.final_norm, (across,), (written,))
    sent = head_to_residual(lens, Head(2, 3), unit)
    assert torch.cosine_similarity(passed_on, sent, dim=0) == pytest.approx(1, abs=1e-5)


def test_directions_that_point_nowhere_and_heads_that_are_not_there_are_refused(lens: Lens):
    for value in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="near to no token"):
            nearest_tokens(lens, torch.full((lens.d_model,), value))
    with pytest.raises(ValueError, match="3 x 4 heads; not L3H0"):
        head_to_residual(lens, Head(3, 0), torch.ones(6))
