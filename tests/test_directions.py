"""A direction points from toxic to benign, and its sigma is the spread along it."""

import numpy as np
import pytest
import torch
from planted import D_MODEL, GRID, line, planted, text_set

from lens import Head
from probes import ProbeSet, direction, fit_probes, layer_direction
from probes.direction import random_numbers

PLANTED = Head(1, 2)


@pytest.fixture(scope="module")
def probes() -> ProbeSet:
    texts = text_set()
    return fit_probes(planted(texts, PLANTED, layer=2), texts, "made-up")


@pytest.mark.parametrize("kind", ["mass-mean", "probe-weight"])
def test_positive_strengths_lead_away_from_the_planted_toxic_end(probes, kind):
    toxic_end = line(GRID.d_head)
    assert direction(probes, PLANTED, kind).unit.numpy() @ toxic_end < -0.5
    assert layer_direction(probes, 2, kind).numpy() @ line(D_MODEL) < -0.5


def test_the_mass_mean_direction_is_the_planted_line(probes):
    assert direction(probes, PLANTED).unit.numpy() @ line(GRID.d_head) < -0.98


@pytest.mark.parametrize("kind", ["mass-mean", "probe-weight", "random"])
def test_sigma_is_the_standard_deviation_of_all_projections(probes, kind):
    z = planted(text_set(), PLANTED, layer=2).heads
    for head in probes.grid:
        way = direction(probes, head, kind)
        assert way.unit.norm().item() == pytest.approx(1, abs=1e-6)
        projections = (z[:, head.layer, head.index].double() @ way.unit.double()).numpy()
        assert way.sigma == pytest.approx(projections.std(), rel=1e-5)


def test_a_push_of_one_sigma_moves_the_projection_by_one_sigma(probes):
    way = direction(probes, PLANTED)
    assert (way.push(3) @ way.unit).item() == pytest.approx(3 * way.sigma, rel=1e-5)
    assert torch.equal(way.push(0), torch.zeros(GRID.d_head))
    assert torch.equal(way.push(-2), -way.push(2))


def test_a_push_toward_benign_makes_the_probe_say_benign(probes):
    z = planted(text_set(), PLANTED, layer=2).heads[:, 1, 2]
    weight, bias = probes.heads.weight[1, 2], probes.heads.bias[1, 2]
    shares = [
        float(((z + direction(probes, PLANTED).push(s)) @ weight + bias > 0).float().mean()) for s in range(-4, 5)
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.95
    assert shares[-1] < 0.05


def test_the_random_control_depends_on_seed_and_head_alone(probes):
    texts = text_set(seed=9)
    other = fit_probes(planted(texts, seed=8), texts, "another")
    assert torch.equal(direction(probes, PLANTED, "random").unit, direction(other, PLANTED, "random").unit)
    units = [direction(probes, head, "random", seed).unit.numpy() for head in probes.grid for seed in (0, 1, -1, 2**40)]
    assert np.abs(np.corrcoef(units) - np.eye(len(units))).max() < 0.999


@pytest.mark.wrong_types
def test_random_controls_of_any_two_hook_points_and_seeds_are_independent(probes):
    """Bit by bit: widths differ, so numbers that are shared would be shared from the first on, before normalising."""
    seeds = (0, 1, 3, -1, 2**32, 3 * 2**32, 2**40)
    names = [*map(str, probes.grid), *(f"layer {layer}" for layer in range(probes.grid.n_layers))]
    first = {random_numbers(seed, name).standard_normal() for name in names for seed in seeds}
    assert len(first) == len(names) * len(seeds)
    for layer in range(probes.grid.n_layers):
        head = direction(probes, Head(layer, 0), "random").unit
        stream = layer_direction(probes, layer, "random")[: len(head)]
        assert abs(float(stream @ head / stream.norm())) < 0.999
    for seed in (2.5, True, "1", None):
        with pytest.raises(ValueError, match=r"seed of random directions is a whole number; got"):
            direction(probes, PLANTED, "random", seed)


@pytest.mark.wrong_types
def test_a_head_that_does_not_exist_is_refused(probes):
    with pytest.raises(ValueError, match="3 x 4 heads; not L9H0"):
        direction(probes, Head(9, 0))
    with pytest.raises(ValueError, match="layers 0 to 2"):
        layer_direction(probes, 3)
    with pytest.raises(ValueError, match="mass-mean, probe-weight, random"):
        direction(probes, PLANTED, "sideways")


def test_a_head_that_says_the_same_about_every_text_has_no_direction():
    texts = text_set(60)
    activations = planted(texts)
    activations.heads[:, 0, 0] = 1.0
    probes = fit_probes(activations, texts, "made-up")
    with pytest.raises(ValueError, match="L0H0 has no length"):
        direction(probes, Head(0, 0))
