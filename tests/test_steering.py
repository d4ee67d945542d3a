"""Steering: two roads to one number, and a model that is itself again afterwards."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lens import Head, Lens
from probes.direction import Direction
from steering import biased, cost, pushes, steered

SENTENCE = "The people next door are kind, and they water our plants"


def direction_at(head: str, seed: int = 0, sigma: float = 0.3, d_head: int = 6) -> Direction:
    unit = torch.randn(d_head, generator=torch.Generator().manual_seed(seed))
    return Direction(Head.parse(head), unit / unit.norm(), sigma)


DIRECTIONS = [direction_at("L0H1", 1), direction_at("L2H0", 2, 0.5), direction_at("L2H3", 3), direction_at("L1H2", 4)]
SIGMAS = torch.tensor([0.0, 4.0, -8.0])


@pytest.fixture(scope="module")
def batch(lens: Lens) -> tuple[Tensor, Tensor]:
    """Three rows of different lengths, padded, and their mask."""
    tokens = lens.encode(SENTENCE)
    return lens.pad([tokens, tokens[:5], tokens[3:]])


def fast_logits(lens: Lens, batch: tuple[Tensor, Tensor], sigmas: float | Tensor, positions: str) -> Tensor:
    with biased(lens, pushes(lens, DIRECTIONS, sigmas), positions):
        return lens.plain_logits(*batch)


def real(logits: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    return logits[batch[1].bool()]


@pytest.mark.parametrize("positions", ["last", "all"])
def test_both_roads_lead_to_the_same_logits(lens: Lens, batch: tuple[Tensor, Tensor], positions: str) -> None:
    fast = fast_logits(lens, batch, SIGMAS, positions)
    with steered(lens, DIRECTIONS, SIGMAS, positions):
        reference = lens.logits(*batch)
    plain = lens.plain_logits(*batch)
    assert (real(fast, batch) - real(plain, batch)).abs().max() > 0.1  # there is something to agree about
    torch.testing.assert_close(real(fast, batch), real(reference, batch), rtol=0, atol=1e-4)  # float32, other kernels


def test_a_transposed_output_matrix_would_part_the_roads(
    lens: Lens, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Lens.W_O

    def transposed(self: Lens, layer: int) -> Tensor:
        return right(self, layer).flatten(0, 1).T.unflatten(0, (self.grid.n_heads, self.grid.d_head))

    with steered(lens, DIRECTIONS, SIGMAS, "all"):
        reference = lens.logits(*batch)
    monkeypatch.setattr(Lens, "W_O", transposed)
    assert (real(fast_logits(lens, batch, SIGMAS, "all") - reference, batch)).abs().max() > 0.1


@pytest.mark.parametrize("positions", ["last", "all"])
def test_strength_0_is_the_model_to_the_bit(lens: Lens, batch: tuple[Tensor, Tensor], positions: str) -> None:
    assert torch.equal(fast_logits(lens, batch, 0, positions), lens.plain_logits(*batch))
    reference = lens.logits(*batch)
    with steered(lens, DIRECTIONS, 0, positions):
        assert torch.equal(lens.logits(*batch), reference)


def test_a_row_of_strength_0_is_plain_beside_steered_rows(lens: Lens, batch: tuple[Tensor, Tensor]) -> None:
    fast, plain = fast_logits(lens, batch, SIGMAS, "last"), lens.plain_logits(*batch)
    assert torch.equal(fast[0], plain[0])
    assert not torch.equal(fast[1], plain[1])


def test_last_moves_the_last_position_only(lens: Lens, batch: tuple[Tensor, Tensor]) -> None:
    fast, plain = fast_logits(lens, batch, 8.0, "last"), lens.plain_logits(*batch)
    assert torch.equal(fast[:, :-1], plain[:, :-1])
    assert (fast[:, -1] - plain[:, -1]).abs().max() > 0.1


def test_minus_undoes_plus(lens: Lens) -> None:
    there, back = pushes(lens, DIRECTIONS, 8.0), pushes(lens, DIRECTIONS, -8.0)
    assert all(torch.equal(there[layer], -back[layer]) for layer in there)
    assert list(there) == [0, 1, 2]


def test_the_model_is_restored_also_after_an_exception(lens: Lens, batch: tuple[Tensor, Tensor]) -> None:
    plain, reference = lens.plain_logits(*batch), lens.logits(*batch)
    with pytest.raises(KeyError), biased(lens, pushes(lens, DIRECTIONS, 8.0)):
        raise KeyError
    with pytest.raises(KeyError), steered(lens, DIRECTIONS, 8.0):
        raise KeyError
    assert torch.equal(lens.plain_logits(*batch), plain)
    assert torch.equal(lens.logits(*batch), reference)


def test_hooks_are_undone_when_a_later_one_fails(lens: Lens, batch: tuple[Tensor, Tensor]) -> None:
    plain, pushed = lens.plain_logits(*batch), pushes(lens, DIRECTIONS, 8.0)
    with pytest.raises(IndexError), biased(lens, {**pushed, 99: pushed[0]}):
        pass
    assert torch.equal(lens.plain_logits(*batch), plain)


def test_steering_moves_the_planted_score_monotonically(lens: Lens, batch: tuple[Tensor, Tensor]) -> None:
    """Plant a word: the way in which a head of the last layer writes it. Strength then decides how probable it is."""
    word = lens.encode(" water")[0]
    planted = Direction(Head(2, 3), torch.nn.functional.normalize(lens.W_O(2)[3] @ lens.W_U[word], dim=0), 0.2)
    strengths = (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0)
    probabilities = []
    for sigmas in strengths:
        with biased(lens, pushes(lens, [planted], sigmas)):
            probabilities.append(lens.plain_logits(*batch)[:, -1].softmax(-1)[:, word])
    assert (torch.stack(probabilities).diff(dim=0) > 0).all()


@pytest.mark.parametrize("sigmas", [math.nan, math.inf, -math.inf, 101.0, -1e9])
def test_absurd_strengths_are_refused(lens: Lens, sigmas: float) -> None:
    with pytest.raises(ValueError, match="standard deviations between -100 and 100"):
        pushes(lens, DIRECTIONS, sigmas)
    with pytest.raises(ValueError, match="standard deviations"), steered(lens, DIRECTIONS, sigmas):
        pass


def test_directions_of_another_model_are_refused(lens: Lens) -> None:
    for stranger in (direction_at("L3H0"), direction_at("L0H4"), direction_at("L0H0", d_head=7)):
        with pytest.raises(ValueError, match="does not fit tiny: 3 layers of 4 heads, each 6 wide"):
            pushes(lens, [stranger], 1.0)


def test_an_unknown_position_rule_is_refused(lens: Lens) -> None:
    with pytest.raises(ValueError, match="'last' or 'all'; got 'first'"), biased(lens, {}, "first"):
        pass


TEXT = "She walked to the harbour and counted the boats coming home. A small garden needs sun, water and patience. " * 2


def test_cost_is_nothing_at_0_and_grows_with_strength(lens: Lens) -> None:
    free, small, large = cost(lens, DIRECTIONS, [0, 2, 12], TEXT, window=16)
    assert free.kl.value == 0
    assert free.increase.value == 0
    assert 0 < small.kl.value < large.kl.value
    assert free.plain == small.plain == large.plain
    assert small.cross_entropy.value != free.cross_entropy.value


def test_cost_agrees_with_the_model_s_own_loss_and_with_the_reference_road(lens: Lens) -> None:
    (found,) = cost(lens, DIRECTIONS, [6.0], TEXT, window=16)
    ids = lens.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    windows = torch.tensor(ids[: len(ids) // 16 * 16]).reshape(-1, 16)
    assert found.n_tokens == windows[:, 1:].numel()
    assert found.plain.value == pytest.approx(lens.model(windows, labels=windows).loss.item(), abs=1e-5)
    with steered(lens, DIRECTIONS, 6.0, "all"):
        steered_log = lens.logits(windows)[:, :-1].log_softmax(-1)
    plain_log = lens.logits(windows)[:, :-1].log_softmax(-1)
    kl = torch.nn.functional.kl_div(steered_log, plain_log, log_target=True, reduction="none").sum(-1).mean()
    loss = torch.nn.functional.nll_loss(steered_log.flatten(0, 1), windows[:, 1:].flatten())
    assert found.kl.value == pytest.approx(kl.item(), abs=1e-5)
    assert found.cross_entropy.value == pytest.approx(loss.item(), abs=1e-5)


def test_scoring_with_the_last_position_is_refused(lens: Lens) -> None:
    with pytest.raises(ValueError, match="every strength would cost nothing"):
        cost(lens, DIRECTIONS, [4.0], TEXT, positions="last")


@pytest.mark.parametrize(("text", "window", "sentence"), [("", 16, "at least 2"), (TEXT, 1, "2 to"), (TEXT, 65, "64")])
def test_cost_refuses_what_it_cannot_measure(lens: Lens, text: str, window: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cost(lens, DIRECTIONS, [4.0], text, window=window)


def test_a_direction_given_twice_pushes_twice(lens: Lens) -> None:
    (once,), (twice,) = (pushes(lens, [DIRECTIONS[0]] * n, 4.0).values() for n in (1, 2))
    torch.testing.assert_close(twice, 2 * once)
    (double,) = pushes(lens, [replace(DIRECTIONS[0], sigma=0.6)], 4.0).values()
    torch.testing.assert_close(twice, double)
