"""Values that travel as JSON come back as they were: equal, with equal hashes, a tuple as a tuple."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from planted import planted, text_set

from evaluation.extract import SHIPPED, Extract
from lens import Activations, Head
from probes import fit_probes
from probes.direction import Kind
from probes.probe import ProbeSet
from probes.store import path_of, read
from steering import METHODS, Plan
from training.mix import Mix
from training.recipe import RECIPES
from training.run import Run

pytestmark = pytest.mark.wrong_types  # JSON has lists where a plan has tuples

PLANS = [
    Plan(),
    Plan(heads=3, gate=0.25),
    Plan(heads="L0H1 L2H3", sigma_from="builtin", positions="all"),
    *(Plan("caa", kind=kind, seed=-3, layers=(2, 0)) for kind in get_args(Kind)),
    *(Plan(method, layers=(1,)) for method in METHODS if METHODS[method].where[:1] == ("residual",)),
    Plan("act", where="heads", heads="band", gate=1e-9),
    Plan("prompting"),
]


def lists_in(value: Any) -> list[Any]:
    """Lists where a frozen value has tuples."""
    if is_dataclass(value) and not isinstance(value, type):
        return [one for field in fields(value) for one in lists_in(getattr(value, field.name))]
    if isinstance(value, tuple):
        return [found for one in value for found in lists_in(one)]
    return [value] if isinstance(value, list) else []


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_plan(plan: Plan) -> None:
    for again in (Plan.from_json(plan.to_json()), Plan(**json.loads(json.dumps(asdict(plan))))):
        assert again == plan
        assert hash(again) == hash(plan)
        assert str(again) == str(plan)
        assert lists_in(again) == []
        assert {plan: 1}[again] == 1
        assert again.to_json() == plan.to_json()


def test_a_plan_that_somebody_else_wrote_is_frozen_too() -> None:
    layers = [2, 0]
    plan = Plan("caa", layers=layers)  # type: ignore[arg-type]
    layers.append(1)
    assert plan.layers == (2, 0)
    assert plan == Plan.from_json('{"method": "caa", "layers": [2, 0]}') == Plan("caa", layers=(2, 0))


def test_probes_and_activations(tmp_path: Path) -> None:
    texts = text_set()
    activations = planted(texts, Head(0, 3))
    probes = fit_probes(activations, texts, "tiny")
    probes.save(tmp_path)
    again = ProbeSet._from(*read(path_of(tmp_path, probes.name)))
    plain = [field.name for field in fields(probes) if field.name not in ("heads", "residual", "null_best")]
    for name in plain:
        assert getattr(again, name) == getattr(probes, name)
        assert type(getattr(again, name)) is type(getattr(probes, name))
    activations.save(tmp_path / "z")
    loaded = Activations.load(tmp_path / "z")
    assert (loaded.groups, loaded.fingerprint, loaded.made_with) == (
        activations.groups,
        activations.fingerprint,
        activations.made_with,
    )


def test_an_extract(tmp_path: Path) -> None:
    shipped = Extract.read(SHIPPED / "demo.json")
    again = Extract.read(shipped.write(tmp_path / "again.json"))
    assert again == shipped
    assert lists_in(again) == []
    for one, other in zip((*again.comparisons, *again.probes), (*shipped.comparisons, *shipped.probes), strict=True):
        assert hash(one) == hash(other)


def test_a_training_run(tmp_path: Path) -> None:
    run = Run(RECIPES["demo"], 3, ("a.npy", "b.npy"), 0, 1, data_sha256=("1" * 64, "2" * 64), toxic_share=0.1)
    run.write(tmp_path)
    again = Run.read(tmp_path)
    assert again == run
    assert hash(again) == hash(run)
    mix = Mix(1000, 0.1)
    assert Mix(**json.loads(json.dumps(asdict(mix)))) == mix
