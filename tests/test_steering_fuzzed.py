"""Whatever is asked of steering either works or is refused with a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planted import planted, text_set
from test_steering import steering

from lens import Lens
from probes import fit_probes
from steering import METHODS, Plan, Row, Sampling, cost, generate
from steering.calibrate import calibrate

often, seldom = settings(max_examples=150, deadline=None), settings(max_examples=40, deadline=None)
floats = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -0.0, 5e-324, 100.0, 1.0])
words = st.text(max_size=12) | st.sampled_from(["L0H1 L2H3", "L0H1,L2H3", "l0h1", "L9H9", "L0H1 L0H1", "L-1H0", "band"])
scalars = st.none() | st.booleans() | st.integers() | floats | words
anything = st.recursive(scalars, lambda some: st.lists(some, max_size=3) | st.dictionaries(words, some, max_size=3))
CHOICES: dict[str, Any] = {
    "method": st.sampled_from(sorted(METHODS)),
    "kind": st.sampled_from(["mass-mean", "probe-weight", "random"]),
    "where": st.sampled_from([None, "heads", "residual"]),
    "positions": st.sampled_from(["last", "all"]),
    "layers": st.lists(st.integers(-2, 5), max_size=3),
    "gate": st.none() | floats,
}
NAMES = [field.name for field in fields(Plan)]
plans = st.fixed_dictionaries({}, optional={name: CHOICES.get(name, anything) | anything for name in NAMES})
GARDEN = "A small garden needs sun, water and patience; the rest is luck."
CONTINUED = [
    " ",
    "\x00",
    "a\x00b",
    "🎉👩‍👩‍👧",
    "שלום עולם",
    "\u202eright to left",
    "\ufeff",
    "\r\n\t\x1b[2J",
    "<|endoftext|>",
    "<|padding|> a <|endoftext|>",
]
REFUSED = {
    "": "The text is empty",
    "\ud83c": "half a character",
    "T" * 50_000: "The text has 50,?000 tokens",
    "é" * 50_000: "The text has 100,?000 tokens",
}
prompts = st.text(max_size=30) | st.text(st.characters(categories=("Cs", "Co", "Cn")), max_size=5)
PROBES = fit_probes(planted(text_set(120)), text_set(120), "planted")


@contextmanager
def refused_with_a_sentence() -> Iterator[None]:
    """Works, or says in a sentence what is wrong; a message of Python's own is no sentence of ours."""
    refused = None
    try:
        yield
    except (ValueError, LookupError) as error:
        refused = error
    assert type(refused) not in (UnicodeEncodeError, json.JSONDecodeError, KeyError, IndexError), repr(refused)
    if refused is not None:
        assert str(refused).endswith((".", "?")), refused
        assert len(str(refused).split()) > 4, refused


@often
@given(given=plans)
@example(given={"method": []})
@example(given={"layers": 3})
@example(given={"layers": ["a"]})
@example(given={"probes": 3})
@example(given={"seed": "x"})
@example(given={"gate": True})
@example(given={"gate": 10**400})
@example(given={"layers": [True], "method": "caa"})
@pytest.mark.wrong_types
def test_any_plan_is_a_plan_or_refused(given: dict[str, Any]) -> None:
    with refused_with_a_sentence():
        plan = Plan(**given)
        assert Plan.from_json(plan.to_json()) == plan
        assert hash(plan) == hash(Plan(**given))
        assert str(plan)
        assert set(plan.chosen_heads(PROBES)) <= set(PROBES.ranked())
        assert set(plan.chosen_layers(PROBES)) <= {0, 1, 2}


@often
@given(text=st.text(max_size=40) | anything.map(json.dumps) | plans.map(json.dumps))
@example(text="[" * 10_000)
@example(text='{"heads": 1e999}')
@example(text='{"seed": 1' + "0" * 5000 + "}")
@pytest.mark.wrong_types
def test_any_text_is_a_plan_in_json_or_refused(text: str) -> None:
    with refused_with_a_sentence():
        assert isinstance(Plan.from_json(text), Plan)


@often
@given(method=st.sampled_from(sorted(METHODS)), strength=floats | scalars)
@pytest.mark.wrong_types
def test_any_strength_is_one_of_the_method_or_refused(method: str, strength: Any) -> None:
    with refused_with_a_sentence():
        assert abs(Plan(method).checked(strength)) <= METHODS[method].most


@seldom
@given(prompt=prompts, strength=st.floats(-100, 100), sample=st.integers(0, 3))
@example(prompt="The people", strength=math.nan, sample=0)
@example(prompt="The people", strength=100.1, sample=0)
def test_any_prompt_at_any_strength_is_continued_or_refused(
    lens: Lens, prompt: str, strength: float, sample: int
) -> None:
    with refused_with_a_sentence():
        (text,) = generate(lens, [Row(prompt, steering(lens).at(strength), sample)], Sampling(max_tokens=3))
        assert len(text.tokens) <= 3
        text.text.encode()


@pytest.mark.parametrize("prompt", CONTINUED, ids=repr)
def test_odd_prompts_are_continued(lens: Lens, prompt: str) -> None:
    (text,) = generate(lens, [Row(prompt, steering(lens).at(4))], Sampling(max_tokens=3))
    assert 0 <= len(text.tokens) <= 3
    assert text.receipt.n_positions > 0


@pytest.mark.parametrize("prompt", REFUSED, ids=lambda prompt: repr(prompt)[:20])
def test_prompts_that_cannot_be_read_are_refused(lens: Lens, prompt: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[prompt]):
        generate(lens, [Row(prompt, steering(lens).at(4))], Sampling(max_tokens=3))


@seldom
@given(
    temperature=st.just(0.0) | st.floats(1e-3, 3),
    top_p=st.floats(1e-6, 1),
    max_tokens=st.integers(1, 8),
    seed=st.integers(),
)
@example(temperature=5e-324, top_p=1.0, max_tokens=2, seed=-1)
@example(temperature=1e308, top_p=1.0, max_tokens=2, seed=10**40)
@example(temperature=math.nan, top_p=1.0, max_tokens=2, seed=0)
@example(temperature=1.0, top_p=5e-324, max_tokens=2, seed=0)
@example(temperature=1.0, top_p=math.nan, max_tokens=2, seed=0)
@example(temperature=1.0, top_p=1.0, max_tokens=0, seed=0)
@example(temperature=1.0, top_p=1.0, max_tokens=10**40, seed=0)
def test_any_sampling_writes_or_is_refused(
    lens: Lens, temperature: float, top_p: float, max_tokens: int, seed: int
) -> None:
    with refused_with_a_sentence():
        sampling = Sampling(temperature, top_p, max_tokens, seed)
        (text,) = generate(lens, [Row("The people", steering(lens).at(4))], sampling)
        assert len(text.tokens) <= max_tokens


@seldom
@given(text=st.text(min_size=30, max_size=80) | prompts, window=st.integers(2, 12), nats=st.floats(1e-3, 1))
@example(text="", window=None, nats=0.1)
@example(text=GARDEN, window=None, nats=0.1)
@example(text=GARDEN, window=1, nats=0.1)
@example(text=GARDEN, window=65, nats=0.1)
@example(text=GARDEN, window=8, nats=math.nan)
@example(text=GARDEN, window=8, nats=math.inf)
@example(text=GARDEN, window=8, nats=5e-324)
def test_any_text_costs_something_or_is_refused(lens: Lens, text: str, window: int | None, nats: float) -> None:
    with refused_with_a_sentence():
        (found,) = cost(lens, [steering(lens).at(4)], text, window=window)
        assert math.isfinite(found.kl.value)
        assert calibrate(lens, steering(lens), nats, text, window).kl == pytest.approx(nats, rel=0.011)
