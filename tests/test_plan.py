"""Plans: values that travel as JSON and pick the best heads."""

from __future__ import annotations

import pytest

from lens import HeadGrid
from steering import Plan
from steering.plan import default_n_heads


def test_a_plan_survives_json() -> None:
    plan = Plan(probes="builtin", kind="random", n_heads=3, positions="all", seed=5)
    assert Plan.from_json(plan.to_json()) == plan
    assert str(plan) == "ITI, 3 best heads, random, seed 5, probes builtin, every position"


@pytest.mark.parametrize("text", ["{", "[]", '"iti"', "null", '{"heads": 3}', '{"n_heads": "3"}', '{"kind": []}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"plan is one JSON object|n_heads is|kind is one of"):
        Plan.from_json(text)


@pytest.mark.parametrize(("n", "expected"), [(256, 30), (384, 30), (255, 31), (48, 6), (12, 1), (3, 1)])
def test_the_default_is_thirty_heads_or_twelve_percent(n: int, expected: int) -> None:
    assert default_n_heads(n) == expected


@pytest.mark.parametrize(
    "bad", [{"n_heads": 0}, {"n_heads": 2.5}, {"kind": "best"}, {"method": "x"}, {"positions": "x"}]
)
def test_nonsense_is_refused_with_a_sentence(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} is"):
        Plan(**bad)  # type: ignore[arg-type]


def test_more_heads_than_the_model_has_are_refused() -> None:
    assert Plan(n_heads=12).heads_in(HeadGrid(3, 4, 6)) == 12
    with pytest.raises(ValueError, match="has 12 heads; the plan asks for 13"):
        Plan(n_heads=13).heads_in(HeadGrid(3, 4, 6))
