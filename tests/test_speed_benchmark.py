"""The benchmark's roads write the same words, it notices one that does not, and its page is made of its numbers."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from conftest import N_TOKENS, write_tiny_olmo
from safetensors.torch import load_file, save_file

from benchmarks import roads
from benchmarks.random_models import random_iti
from benchmarks.roads import Road, Spread, Task
from benchmarks.speed_page import page
from benchmarks.steering import Size, agreement, race
from lens import Checkpoint, Lens, open_lens
from lens.blocks import StillCache
from steering import Doses, decode, graph

DOCS = Path(__file__).parent.parent / "docs"
PROMPT = "The people next door"
SIZE = Size("float32", rows=(2,), n_tokens=12, repeats=2, threads=1)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Lens:
    """A tiny model which ends no text and writes no row that belongs to no token."""
    folder = write_tiny_olmo(tmp_path_factory.mktemp("endless") / "tiny")
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][N_TOKENS:] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    lens = open_lens(Checkpoint.open(folder), device="cpu", dtype="float32", threads=1)
    lens.end_tokens, lens.model.generation_config.eos_token_id = frozenset(), None
    return lens


@pytest.fixture(scope="module")
def doses(endless: Lens) -> Doses:
    return random_iti(endless).at(4)


@pytest.fixture(scope="module")
def unsteered(endless: Lens) -> dict[str, Road]:
    return {"plain": roads.ours(endless, ()), "generate": roads.hugging_face(endless)}


@pytest.fixture(scope="module")
def steered(endless: Lens, doses: Doses) -> dict[str, Road]:
    pushes = roads.pushes_of(doses)
    return {
        "ours": roads.ours(endless, doses),
        "pre-hooks": roads.pre_hooks(endless, pushes),
        "TransformerLens": roads.transformer_lens(endless, pushes),
    }


def test_every_steered_road_writes_the_same_words(
    endless: Lens, doses: Doses, unsteered: dict[str, Road], steered: dict[str, Road]
) -> None:
    found = agreement(endless, doses, unsteered, steered, SIZE)
    assert [found["shortfall"][name] for name in steered] == [0.0] * 3
    assert [found["n_same_as_ours"][name] for name in steered] == [SIZE.n_tokens] * 3
    assert min(found["shortfall"][name] for name in unsteered) > 0.1


def test_a_road_that_steers_nothing_or_half_is_noticed(
    endless: Lens, doses: Doses, unsteered: dict[str, Road], steered: dict[str, Road]
) -> None:
    half = {layer: push / 2 for layer, push in roads.pushes_of(doses).items()}
    for wrong in (roads.pre_hooks(endless, {}), roads.pre_hooks(endless, half)):
        with pytest.raises(RuntimeError, match="pre-hooks wrote other words"):
            agreement(endless, doses, unsteered, steered | {"pre-hooks": wrong}, SIZE)
    with pytest.raises(RuntimeError, match="nothing is shown"):
        agreement(endless, (), unsteered, {"ours": unsteered["plain"]}, SIZE)


def test_others_are_handed_nothing_but_pushes_at_heads(endless: Lens, doses: Doses) -> None:
    n_heads, d_head = endless.grid.n_heads, endless.grid.d_head
    lengths = [push.view(n_heads, d_head).norm(dim=-1) for push in roads.pushes_of(doses).values()]
    assert all(set(length.round(decimals=4).tolist()) <= {0.0, 2.0} for length in lengths)  # 4 strengths x sigma 0.5


def test_a_road_without_graphs_is_the_same_road(endless: Lens, doses: Doses, monkeypatch: pytest.MonkeyPatch) -> None:
    made, task = [], Task(PROMPT, 2, 12)
    monkeypatch.setattr(graph, "REPLAYING", {"cpu"})
    monkeypatch.setattr(decode, "StillCache", lambda *args: made.append(args) or StillCache(*args))
    ours = roads.ours(endless, doses)
    plainly = roads.without_graphs(ours)(task).tokens
    assert made == []
    assert ours(task).tokens == plainly
    assert len(made) == 1


def test_roads_take_turns_and_a_ratio_is_one_of_a_repeat() -> None:
    turns: list[str] = []

    def road(name: str, seconds: list[float]) -> Road:
        def turn(task: Task) -> roads.Turn:
            turns.append(name)
            return roads.Turn(seconds[turns.count(name) - 1], [[0] * task.n_tokens] * task.n_rows)

        return turn

    slow = {"ours": road("ours", [9.0, 1.0, 2.0]), "generate": road("generate", [9.0, 2.0, 8.0])}
    found = race(slow, Task(PROMPT, 2, 4), repeats=2)["roads"]
    assert turns == ["generate", "ours", "ours", "generate", "generate", "ours"]
    assert found["generate"]["ours_over_it"]["median"] == (2 / 1 + 8 / 2) / 2
    assert found["ours"]["tokens_per_second"] == {"median": 6.0, "low": 5.0, "high": 7.0}
    with pytest.raises(RuntimeError, match="did not write"):
        race({"ours": lambda task: roads.Turn(1.0, [[0]])}, Task(PROMPT, 2, 4), repeats=1)


def test_a_spread_is_a_median_between_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_what_ran_on_a_gpu_has_a_section_of_its_own() -> None:
    found = json.loads((DOCS / "performance.json").read_text())
    there = {"machine": {**found["machine"], "gpu": "GPU of tests", "cuda": "13.0"}, "sizes": found["sizes"][:1]}
    there = copy.deepcopy(there)
    for one in there["sizes"][0]["races"]:
        one["roads"]["no graphs"] = one["roads"]["plain"]
    without, both = page({**found, "on_gpu": None}), page({**found, "on_gpu": there})
    assert "Nothing was\ntimed on a GPU yet" in without
    assert "a GPU yet" not in both
    section = both.split("## On a GPU\n")[1].split("## Gathering")[0]
    assert section.count("### demo:") == 1
    assert "GPU of tests, CUDA 13.0" in section
    assert section.count("without CUDA graphs, 1 row") == 1
    assert "| our loop, steered, no graphs |" in section


def test_checks_on_a_gpu_stand_with_what_they_measured() -> None:
    found = json.loads((DOCS / "performance.json").read_text())
    held = {"model": "m", "check": "one", "measured": 1.5e-6, "allowed": 0.002, "error": "", "passed": True}
    broke = {**held, "check": "two", "measured": None, "error": "RuntimeError: no", "passed": False}
    missed = {**held, "check": "three", "measured": 0.5, "passed": False}
    machine = {"gpu": "GPU of tests", "cuda": "13.0", "versions": {"torch": "2"}}
    text = page({**found, "checks": {"machine": machine, "results": [held, broke, missed]}})
    assert "1 of 3 held on GPU of tests, CUDA 13.0, torch 2.\n" in text
    assert "| m | one | 1.5e-06 | 0.002 | held |\n| m | two | | | **failed** |" in text
    assert "| m | three | 0.5 | 0.002 | **failed** |" in text


def test_the_page_is_what_its_numbers_say() -> None:
    assert (DOCS / "performance.md").read_text() == page(json.loads((DOCS / "performance.json").read_text()))
