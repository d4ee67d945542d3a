"""A method of one's own is one record: plans, the page's menu, a receipt, a sweep and the command's help know it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from letters import letters

from evaluation.plans import read_plan
from evaluation.prompts import Prompt
from evaluation.unit import Bench, GenerationUnit, Subject, run
from lens.bench import Bench as Page
from probes.probe import ProbeSet
from steering import Plan, Row, Sampling, fit, generate
from steering.edit import Edit
from steering.methods.iti import ITI, directions, edits
from steering.methods.table import METHODS, Method, menu_label, register
from steering.scale import said
from steering.views import methods_for

ROOT = Path(__file__).parent.parent


def reversed_edits(plan: Plan, probes: ProbeSet, sigmas_of: ProbeSet | None) -> tuple[Edit, ...]:
    """ITI on the heads that read the concept worst."""
    worst = replace(plan, method="iti", heads=" ".join(map(str, probes.ranked()[-2:])))
    return edits(directions(worst, probes, sigmas_of), probes.grid.n_heads)


OWN = replace(
    ITI,
    key="worst-heads",
    name="Worst heads",
    summary="shift the heads that read least",
    phrase=lambda strength, to: f"{strength:g} σ of the worst heads {to}",
    edits=reversed_edits,
)


@pytest.fixture
def own() -> Iterator[Method]:
    yield register(OWN)
    del METHODS[OWN.key]


def test_a_method_of_one_s_own_writes_texts_and_receipts(own: Method, bench: Page) -> None:
    with bench.pool.lens(bench.checkpoint("tiny-a")) as lens:
        fitted = fit(Plan(own.key, probes="builtin"), lens)
        rows = [Row("The people next door are", fitted.at(strength)) for strength in (0, 12)]
        plain, steered = generate(lens, rows, Sampling(max_tokens=12))
    assert plain.text != steered.text
    worst = ProbeSet.load(bench.checkpoint("tiny-a"), "builtin").ranked()[-2:]
    assert {shift.edit for shift in steered.receipt.shifts} == set(map(str, worst))
    assert str(steered.receipt.doses[0][0]).startswith("Worst heads")


def test_the_page_s_menu_and_title_name_it(own: Method, bench: Page) -> None:
    assert own.key in methods_for(bench, ["tiny-a"])
    assert menu_label(own.key) == "Worst heads: shift the heads that read least"
    assert said(Plan(own.key), 8, "benign") == "8 σ of the worst heads to benign"


def test_a_sweep_takes_it_by_its_key(own: Method, bench: Page) -> None:
    plan = read_plan(f"{own.key}@12", "builtin")
    subject = Subject.of(bench.checkpoint("tiny-a"), "float32")
    prompt = Prompt("0123456789ab", "The people next door are")
    unit = GenerationUnit(subject, (plan,), "mine", "", 0, (prompt,), Sampling(max_tokens=5), 1, ())
    (row,) = run(unit, Bench("cpu", 1, letters))
    assert row["plan"] == f"{own.key}@12"
    assert row["texts"][0]["text"]


def test_the_command_s_help_offers_it() -> None:
    script = (
        "import sys; from test_method_table import OWN; from steering.methods.table import register; register(OWN);"
        "sys.argv = ['steering', 'generate', '--help']; from steering.__main__ import main; main()"
    )
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "COLUMNS": "200", "PATH": ""}
    shown = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert OWN.key in shown.stdout


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"key": "iti"}, "There is a method 'iti' already"),
        ({"edits": None}, "is fitted in one way"),
        ({"prefix": lambda lens: "x"}, "is fitted in one way"),
        ({"where": ()}, "changes hook points or puts a prefix"),
        ({"most": 8}, "The slider of Worst heads ends"),
    ],
)
def test_a_record_that_does_not_fit_together_is_refused(changes: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        register(replace(OWN, **changes))
    assert OWN.key not in METHODS
