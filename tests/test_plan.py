"""Plans: values that travel as JSON and pick the best heads."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from conftest import write_tiny_olmo

from lens import Lens, open_lens
from probes import ProbeSet, builtin, probe_checkpoint
from steering import Gate, Plan
from steering.methods import iti
from steering.plan import default_n_heads


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lens, ProbeSet]:
    """A tiny model with probes beside it."""
    folder = write_tiny_olmo(tmp_path_factory.mktemp("probed") / "tiny", max_position_embeddings=256)
    lens = open_lens(str(folder), device="cpu", threads=1)
    texts = builtin()
    return lens, probe_checkpoint(lens, replace(texts, texts=texts.texts[:120]))


def test_a_plan_survives_json() -> None:
    plan = Plan(probes="builtin", kind="random", heads=3, positions="all", seed=5, gate=0.7, sigma_from="toxigen")
    assert Plan.from_json(plan.to_json()) == plan
    assert str(plan) == (
        "ITI, 3 best heads, random, seed 5, probes builtin, sigma from toxigen, gate 0.7, every position"
    )
    caa = Plan("caa", layers=(2, 0))
    assert Plan.from_json(caa.to_json()) == caa
    assert str(caa) == "CAA, layers 2 0, mass-mean, probes toxigen, last position"


@pytest.mark.parametrize("gate", [1, 2.5, 10**400, math.inf], ids=["1", "2.5", "huge", "inf"])
def test_a_gate_that_never_opens_has_one_spelling(gate: float) -> None:
    plan = Plan(gate=gate)
    assert plan == Plan(gate=1.0)
    assert json.loads(plan.to_json(), parse_constant=pytest.fail)["gate"] == 1  # JSON has no Infinity
    assert "gate 1," in str(plan)
    everything = Gate(torch.tensor([1e30]), 0.0, plan.gate)
    assert not everything.opens(torch.tensor([[1e30]])).any()  # float64 rounds this probability to 1


@pytest.mark.parametrize(
    "text", ["{", "[]", '"iti"', "null", '{"n_heads": 3}', '{"heads": 2.5}', '{"kind": []}', "[" * 10_000]
)
@pytest.mark.wrong_types
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"plan is one JSON object|heads is|kind is one of"):
        Plan.from_json(text)


@pytest.mark.parametrize(("n", "expected"), [(256, 30), (384, 30), (255, 31), (48, 6), (12, 1), (3, 1)])
def test_the_default_is_thirty_heads_or_twelve_percent(n: int, expected: int) -> None:
    assert default_n_heads(n) == expected


@pytest.mark.parametrize(
    "bad",
    [
        {"heads": 0},
        {"heads": 2.5},
        {"heads": ""},
        {"heads": True},
        {"kind": "best"},
        {"method": "x"},
        {"positions": "x"},
        {"where": "residual"},
        {"gate": -1},
        {"gate": float("nan")},
    ],
)
@pytest.mark.wrong_types
def test_nonsense_is_refused_with_a_sentence(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} is"):
        Plan(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "idle"),
    [
        ("iti", {"layers": (1,)}),
        ("caa", {"heads": 3}),
        ("caa", {"sigma_from": "builtin"}),
        ("leace", {"kind": "random"}),
        ("prompting", {"gate": 0.5}),
        ("prefix", {"heads": "L0H0"}),
    ],
)
def test_a_choice_that_would_change_nothing_is_refused(method: str, idle: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(idle))} has no meaning for"):
        Plan(method, **idle)  # type: ignore[arg-type]


def test_heads_by_rank_above_the_band_or_by_hand(probed: tuple[Lens, ProbeSet]) -> None:
    _, probes = probed
    ranked = probes.ranked()
    assert Plan(heads=3).chosen_heads(probes) == ranked[:3]
    assert Plan().chosen_heads(probes) == ranked[:1]
    by_hand = Plan(heads=f"{ranked[4]} {ranked[1]}").chosen_heads(probes)
    assert by_hand == [ranked[1], ranked[4]]
    scores = {head: probes.accuracy(head).value for head in ranked}
    cut = sorted(scores.values())[-4]
    banded = replace(probes, null_best=torch.full((20,), cut, dtype=torch.float64))
    assert Plan(heads="band").chosen_heads(banded) == [head for head in ranked if scores[head] > cut]
    hopeless = replace(probes, null_best=torch.ones(20, dtype=torch.float64))
    with pytest.raises(ValueError, match="No head of tiny is above the null band"):
        Plan(heads="band").chosen_heads(hopeless)
    with pytest.raises(ValueError, match="has 12 heads; the plan asks for 13"):
        Plan(heads=13).chosen_heads(probes)
    with pytest.raises(ValueError, match=r"has no head L3H0\. It has layers 0 to 2 with heads 0 to 3"):
        Plan(heads="L0H1 L3H0").chosen_heads(probes)


def test_layers_are_the_best_read_one_all_or_those_given(probed: tuple[Lens, ProbeSet]) -> None:
    _, probes = probed
    assert Plan("caa").chosen_layers(probes) == [probes.best_layer]
    assert Plan("ablate").chosen_layers(probes) == [0, 1, 2]
    assert Plan("leace", layers=(2, 0)).chosen_layers(probes) == [0, 2]
    with pytest.raises(ValueError, match="has no layer 3"):
        Plan("caa", layers=(3,)).chosen_layers(probes)


@pytest.mark.wrong_types
def test_strengths_have_their_method_s_bounds() -> None:
    assert Plan().checked(-12) == -12
    for plan, bad in ((Plan(), 101.0), (Plan(), math.nan), (Plan("act"), 1.1), (Plan("act"), -0.1), (Plan(), "8")):
        with pytest.raises(ValueError, match=f"A strength of {plan.rule.name} .* is a number from"):
            plan.checked(bad)  # type: ignore[arg-type]


def test_an_iti_plan_takes_the_best_heads_and_their_directions(probed: tuple[Lens, ProbeSet]) -> None:
    _, probes = probed
    found = iti.directions(Plan(heads=3), probes)
    assert [direction.head for direction in found] == probes.ranked()[:3]
    for direction in found:
        at = direction.head.layer, direction.head.index
        toward_benign = probes.heads.mean_benign[at] - probes.heads.mean_toxic[at]
        assert torch.nn.functional.cosine_similarity(direction.unit, toward_benign.float(), dim=0) > 0.9999
    random = iti.directions(Plan(heads=3, kind="random", seed=1), probes)
    assert [one.head for one in random] == [one.head for one in found]
    other = iti.directions(Plan(heads=3, kind="random", seed=2), probes)
    assert not torch.allclose(random[0].unit, other[0].unit)
