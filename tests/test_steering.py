"""Steering: two roads to one number, and a model that is itself again afterwards."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lens import Head, Lens
from probes.direction import Direction
from steering import Doses, Plan, Shifts, Site, Steering, WrongModel, hooked, steered
from steering.methods import iti

SENTENCE = "The people next door are kind, and they water our plants"


def direction_at(head: str, seed: int = 0, sigma: float = 0.3, d_head: int = 6) -> Direction:
    unit = torch.randn(d_head, generator=torch.Generator().manual_seed(seed))
    return Direction(Head.parse(head), unit / unit.norm(), sigma)


DIRECTIONS = [direction_at("L0H1", 1), direction_at("L2H0", 2, 0.5), direction_at("L2H3", 3), direction_at("L1H2", 4)]
SIGMAS = (0.0, 4.0, -8.0)


def steering(lens: Lens, directions: Sequence[Direction] = DIRECTIONS, positions: str = "last") -> Steering:
    """A plan fitted by hand."""
    edits = iti.edits(directions, lens.grid.n_heads)
    return Steering(Plan(positions=positions), lens.checkpoint.fingerprint, edits)


def doses(lens: Lens, sigmas: Sequence[float]) -> list[Doses]:
    """One for each row of a batch."""
    ours = steering(lens)
    return [ours.at(one) for one in sigmas]


@pytest.fixture(scope="module")
def batch(lens: Lens) -> tuple[Tensor, Tensor]:
    """Three rows of different lengths, padded, and their mask."""
    tokens = lens.encode(SENTENCE)
    return lens.pad([tokens, tokens[:5], tokens[3:]])


def fast_logits(lens: Lens, batch: tuple[Tensor, Tensor], sigmas: Sequence[float], positions: str) -> Tensor:
    with hooked(lens, Shifts(lens, doses(lens, sigmas)), positions):
        return lens.plain_logits(*batch)


def real(logits: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    return logits[batch[1].bool()]


@pytest.mark.parametrize("positions", ["last", "all"])
def test_both_roads_lead_to_the_same_logits(lens: Lens, batch: tuple[Tensor, Tensor], positions: str) -> None:
    fast = fast_logits(lens, batch, SIGMAS, positions)
    with steered(lens, doses(lens, SIGMAS), positions):
        reference = lens.logits(*batch)
    plain = lens.plain_logits(*batch)
    assert (real(fast, batch) - real(plain, batch)).abs().max() > 0.1  # there is something to agree about
    torch.testing.assert_close(real(fast, batch), real(reference, batch), rtol=0, atol=1e-4)  # float32, other kernels


def test_a_transposed_output_matrix_would_part_the_roads(
    lens: Lens, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    with steered(lens, doses(lens, SIGMAS), "all"):
        reference = lens.logits(*batch)
    monkeypatch.setattr(sys.modules["steering.steerer"], "linear", lambda x, weight: x @ weight)
    assert (real(fast_logits(lens, batch, SIGMAS, "all") - reference, batch)).abs().max() > 0.1


@pytest.mark.parametrize("positions", ["last", "all"])
def test_strength_0_is_the_model_to_the_bit(lens: Lens, batch: tuple[Tensor, Tensor], positions: str) -> None:
    assert torch.equal(fast_logits(lens, batch, (0, 0, 0), positions), lens.plain_logits(*batch))
    reference = lens.logits(*batch)
    with steered(lens, doses(lens, (0, 0, 0)), positions):
        assert torch.equal(lens.logits(*batch), reference)


def test_a_row_of_strength_0_is_plain_beside_steered_rows(lens: Lens, batch: tuple[Tensor, Tensor]) -> None:
    fast, plain = fast_logits(lens, batch, SIGMAS, "last"), lens.plain_logits(*batch)
    assert torch.equal(fast[0], plain[0])
    assert not torch.equal(fast[1], plain[1])


def test_last_moves_the_last_position_only(lens: Lens, batch: tuple[Tensor, Tensor]) -> None:
    fast, plain = fast_logits(lens, batch, (8, 8, 8), "last"), lens.plain_logits(*batch)
    assert torch.equal(fast[:, :-1], plain[:, :-1])
    assert (fast[:, -1] - plain[:, -1]).abs().max() > 0.1


def test_minus_undoes_plus_and_doses_add_up(lens: Lens) -> None:
    ours, others = steering(lens), steering(lens, [direction_at("L1H0", 5)])
    there, back, both = (Shifts(lens, [one]).places for one in (ours.at(8), ours.at(-8), ours.at(8) + others.at(2)))
    assert [site.layer for site in there] == [0, 1, 2]
    assert all(torch.equal(there[site].push, -back[site].push) for site in there)
    own = Shifts(lens, [others.at(2)]).places
    for site, place in both.items():
        assert torch.equal(place.push, there[site].push + (own[site].push if site in own else 0))
    assert Shifts(lens, [ours.at(0)]).places == {}


def test_the_model_is_restored_also_after_an_exception(lens: Lens, batch: tuple[Tensor, Tensor]) -> None:
    plain, reference = lens.plain_logits(*batch), lens.logits(*batch)
    with pytest.raises(KeyError), hooked(lens, Shifts(lens, doses(lens, SIGMAS)), "last"):
        raise KeyError
    with pytest.raises(KeyError), steered(lens, doses(lens, SIGMAS), "last"):
        raise KeyError
    assert torch.equal(lens.plain_logits(*batch), plain)
    assert torch.equal(lens.logits(*batch), reference)


def test_hooks_are_undone_when_a_later_one_fails(lens: Lens, batch: tuple[Tensor, Tensor]) -> None:
    plain, shifts = lens.plain_logits(*batch), Shifts(lens, doses(lens, SIGMAS))
    shifts.places[Site(99, "heads")] = next(iter(shifts.places.values()))
    with pytest.raises(AttributeError), hooked(lens, shifts, "last"):
        pass
    assert torch.equal(lens.plain_logits(*batch), plain)


def test_steering_moves_the_planted_score_monotonically(lens: Lens, batch: tuple[Tensor, Tensor]) -> None:
    """Plant a word: the way in which a head of the last layer writes it. Strength then decides how probable it is."""
    word = lens.encode(" water")[0]
    planted = Direction(Head(2, 3), torch.nn.functional.normalize(lens.W_O(2)[3] @ lens.W_U[word], dim=0), 0.2)
    ours = steering(lens, [planted])
    probabilities = []
    for sigmas in (-12.0, -8.0, -4.0, 0.0, 4.0, 8.0, 12.0):
        with hooked(lens, Shifts(lens, [ours.at(sigmas)] * 3), "last"):
            probabilities.append(lens.plain_logits(*batch)[:, -1].softmax(-1)[:, word])
    assert (torch.stack(probabilities).diff(dim=0) > 0).all()


@pytest.mark.parametrize("sigmas", [math.nan, math.inf, -math.inf, 101.0, -1e9])
def test_absurd_strengths_are_refused(lens: Lens, sigmas: float) -> None:
    with pytest.raises(ValueError, match=r"ITI \(standard deviations\) is a number from -100 to 100"):
        steering(lens).at(sigmas)


def test_steering_of_another_model_is_refused(lens: Lens) -> None:
    foreign = replace(steering(lens), fingerprint="0" * 64)
    with pytest.raises(WrongModel, match="was fitted to the weights 000000000000, and tiny has"):
        Shifts(lens, [foreign.at(1)])
    for stranger in (direction_at("L3H0"), direction_at("L0H0", d_head=7)):
        with pytest.raises(WrongModel, match="does not fit tiny: it has 3 layers, 24 wide there"):
            Shifts(lens, [steering(lens, [stranger]).at(1)])


def test_an_unknown_position_rule_is_refused(lens: Lens) -> None:
    with pytest.raises(ValueError, match="'last' or 'all'; got 'first'"), hooked(lens, Shifts(lens, []), "first"):
        pass


def test_a_direction_given_twice_pushes_twice(lens: Lens) -> None:
    def push(*directions: Direction) -> Tensor:
        (place,) = Shifts(lens, [steering(lens, directions).at(4)]).places.values()
        return place.push

    first = DIRECTIONS[0]
    torch.testing.assert_close(push(first, first), 2 * push(first))
    torch.testing.assert_close(push(first, first), push(replace(first, sigma=0.6)))
