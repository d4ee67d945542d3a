"""Plans as they are written in a command."""

from __future__ import annotations

from dataclasses import fields

import pytest

from evaluation.plans import AskedPlan, NoSuchPlan, read_plan
from steering import METHODS, Plan


def test_the_plain_model_has_no_plan() -> None:
    assert read_plan("none") == AskedPlan("none")
    assert read_plan("none").described is None


@pytest.mark.parametrize(
    ("label", "plan", "strength", "nats"),
    [
        ("iti@8", Plan(), 8, None),
        ("iti@-2.5", Plan(), -2.5, None),
        ("caa@0.1nats", Plan("caa"), None, 0.1),
        ("prompting", Plan("prompting"), 1, None),
        ("prefix@1", Plan("prefix"), 1, None),
        ("iti:heads=band,gate=0.5@8", Plan(heads="band", gate=0.5), 8, None),
        ("iti:heads=12@8", Plan(heads=12), 8, None),
        ("caa:layers=3+2,probes=a@b@1", Plan("caa", layers=(3, 2), probes="a@b"), 1, None),
    ],
)
def test_what_is_written_is_what_is_asked(label: str, plan: Plan, strength: float, nats: float) -> None:
    assert read_plan(label) == AskedPlan(label, plan, strength, nats)


def test_every_field_of_a_plan_can_be_written() -> None:
    words = {"probes": "mine", "kind": "random", "heads": "L0H1+L2H3", "sigma_from": "other", "gate": "0.5"}
    words |= {"positions": "all", "seed": "3"}
    found = read_plan(f"iti:{','.join(f'{name}={value}' for name, value in words.items())}@1").plan
    assert found == Plan(
        probes="mine", kind="random", heads="L0H1 L2H3", sigma_from="other", gate=0.5, positions="all", seed=3
    )
    assert read_plan("act:layers=1,where=residual@1").plan == Plan("act", layers=(1,), where="residual")
    assert {field.name for field in fields(Plan)} == {"method", "layers", "where", *words}


def test_probes_are_a_default_for_the_plans_that_read_them() -> None:
    assert read_plan("iti@8", probes="mine").plan == Plan(probes="mine")
    assert read_plan("iti:probes=own@8", probes="mine").plan == Plan(probes="own")
    assert read_plan("prompting", probes="mine").plan == Plan("prompting")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("itti@8", "There is no plan 'itti@8'. Did you mean 'iti'?"),
        ("non", "Did you mean 'none'?"),
        ("", "There is no plan ''"),
        ("iti", "takes a strength behind an @, as in iti@1 or iti@0.1nats"),
        ("iti@strong", "takes a strength"),
        ("iti@nan", "from -100 to 100"),
        ("act@2", "from 0 to 1"),
        ("iti@-1nats", "above 0"),
        ("iti@infnats", "above 0"),
        ("prompting@0.1nats", "on or off"),
        ("iti:head=3@8", "Did you mean 'heads'?"),
        ("iti:band@8", "'band' is no field=value"),
        ("iti:gate=half@8", "gate cannot be 'half'"),
        ("iti:seed=1,seed=2@8", "seed is given twice"),
        ("iti:layers=2@8", "layers has no meaning"),
        ("iti:heads=L3@8", "iti:heads=L3@8: "),
    ],
)
def test_nonsense_is_refused_with_what_to_write(label: str, words: str) -> None:
    with pytest.raises(NoSuchPlan) as refused:
        read_plan(label)
    assert words in str(refused.value)


def test_every_method_can_be_asked_for() -> None:
    assert {read_plan(f"{method}@1").plan for method in METHODS} == {Plan(method) for method in METHODS}
