"""A sweep: rows that depend on their unit alone, nothing done twice, equal words under equal chance."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from conftest import SENTENCES, write_tiny_olmo
from letters import Letters, letters

from evaluation import sweep, unit
from evaluation.commands import sweep as command
from evaluation.plans import NoSuchPlan, read_plan
from evaluation.prompts import Prompt, PromptSet, listed, open_prompts
from evaluation.results import OtherSweep, Results
from evaluation.sweep import Progress, Sweep, here, measure, work
from evaluation.unit import Bench, CostUnit, GenerationUnit, NotPriced, OtherVersion, Subject, run
from lens import Lens, find, open_lens
from lens.bench import Bench as Page
from steering import Plan, Row, Sampling, calibrate, cost, fit, generate
from steering.options import Machine

PLANS = ("none", "iti@4", "iti@-4", "caa@0.05nats", "iti@0.05nats")
LETTERS = Letters()
TEXT = " ".join(SENTENCES) * 3


@pytest.fixture
def workbench() -> Bench:
    return Bench("cpu", 1, letters)


@pytest.fixture
def asked(bench: Page) -> Sweep:
    """Two checkpoints, five plans, eighty prompts that fit into 64 tokens or have to be cut."""
    subjects = tuple(Subject.of(bench.checkpoint(name), "float32") for name in ("tiny-a", "tiny-b"))
    plans = tuple(read_plan(plan, "builtin") for plan in PLANS)
    prompts = replace(ours := open_prompts("builtin"), prompts=ours.prompts[:10])
    sampling, scorers = Sampling(max_tokens=5), (("letters", "letters", "1"),)
    return Sweep(subjects, plans, (prompts,), (0, 1), sampling, 2, scorers, "ours", TEXT)


def test_every_checkpoint_plan_prompt_seed_and_sample_is_measured_once(
    asked: Sweep, workbench: Bench, tmp_path: Path
) -> None:
    said: list[Progress] = []
    with Results(tmp_path) as results:
        measure(asked, results, here(workbench), said.append)
        rows = list(results.rows("generation"))
        found = [
            (row["checkpoint"], row["plan"], text["prompt"], row["seed"], text["sample"])
            for row in rows
            for text in row["texts"]
        ]
        labels = [plan.label for plan in asked.plans]
        prompts = [prompt.id for prompt in asked.prompts[0].prompts]
        assert sorted(found) == sorted(
            (name, plan, prompt, seed, sample)
            for name in ("tiny-a", "tiny-b")
            for plan in labels
            for prompt in prompts
            for seed in (0, 1)
            for sample in (0, 1)
        )
        costs = [(row["checkpoint"], row["plan"]) for row in results.rows("cost")]
        assert costs == [(name, plan) for name in ("tiny-a", "tiny-b") for plan in labels]
    assert said[0].done == 0
    assert said[-1].done == pytest.approx(1)
    assert [one.done for one in said] == sorted(one.done for one in said)


def test_what_is_done_is_not_done_again(
    asked: Sweep, workbench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Results(tmp_path) as results:
        measure(asked, results, here(workbench))
    whole = (tmp_path / "rows.jsonl").read_bytes()
    with Results(tmp_path) as results:
        measure(asked, results, lambda units: iter([] if not units else pytest.fail(f"{len(units)} units again")))
    lines = whole.splitlines(keepends=True)
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines[:13]) + lines[13][:40])
    with Results(tmp_path) as results:
        measure(asked, results, here(workbench))
    assert (tmp_path / "rows.jsonl").read_bytes() == whole
    with Results(tmp_path) as results, pytest.raises(OtherSweep, match="seeds"):
        measure(replace(asked, seeds=(0,)), results, here(workbench))
    monkeypatch.setattr(sweep, "ROWS", 16)
    with Results(tmp_path) as results, pytest.raises(OtherSweep, match="texts_together: 256 there, 16 asked"):
        measure(asked, results, here(workbench))


def test_a_unit_s_rows_do_not_depend_on_what_was_done_before(asked: Sweep, workbench: Bench) -> None:
    strengths = {(one.fingerprint, plan.label): 2.5 for one in asked.subjects for plan in asked.plans}
    units = [*asked.costs(), *asked.generations({**strengths})]
    in_order = [run(one, workbench) for one in units]
    backwards = [run(one, Bench("cpu", 1, letters)) for one in units[::-1]]
    assert in_order == backwards[::-1]
    assert len({one.id for one in units}) == len(units)


def test_a_unit_is_named_by_all_that_it_says_but_not_by_where_checkpoint_and_scorer_lie(asked: Sweep) -> None:
    first = asked.generations({(s.fingerprint, p.label): 1.0 for s in asked.subjects for p in asked.plans})[0]
    assert isinstance(first, GenerationUnit)
    moved = replace(
        first,
        subject=replace(first.subject, folder="elsewhere"),
        scorers=(("/elsewhere/letters", "letters", "1"),),
    )
    others = [
        replace(first, subject=replace(first.subject, fingerprint="0")),
        replace(first, plans=first.plans[1:]),
        replace(first, sampling=Sampling(seed=9, max_tokens=5)),
        replace(first, prompts=first.prompts[1:]),
        replace(first, n_samples=3),
        replace(first, scorers=(("letters", "letters", "2"),)),
        replace(first, scorers=(("letters", "other", "1"),)),
    ]
    assert moved.id == first.id
    assert first.id not in {other.id for other in others}
    assert CostUnit(first.subject, first.plans, "", "x").id != CostUnit(first.subject, first.plans, "", "y").id


def test_rows_are_what_generate_and_cost_give_one_by_one(asked: Sweep, workbench: Bench) -> None:
    """The other road: each plan alone, through the library's own calls."""
    subject = asked.subjects[0]
    lens = open_lens(subject.folder, "cpu", "float32", 1)
    costs = run(asked.costs()[0], workbench)
    strengths = {(subject.fingerprint, row["plan"]): row["strength"] for row in costs}
    one = asked.generations({**strengths, **{(asked.subjects[1].fingerprint, p.label): 0 for p in asked.plans}})[0]
    assert isinstance(one, GenerationUnit)
    for row, found, plan in zip(costs, run(one, workbench), one.plans, strict=True):
        doses = ()
        if plan.plan is not None:
            steering = fit(plan.plan, lens)
            doses = steering.at(calibrate(lens, steering, plan.nats, TEXT).strength if plan.nats else plan.strength)
            assert found["asked"]["strength"] == row["strength"] == doses[0].strength
        (priced,) = cost(lens, [doses], TEXT)
        assert row["kl"] == pytest.approx([priced.kl.value, priced.kl.low, priced.kl.high, priced.kl.n], abs=1e-6)
        rows = [Row(prompt.text, doses, sample) for prompt in one.prompts for sample in (0, 1)]
        alone = generate(lens, rows, one.sampling)
        assert [text["text"] for text in found["texts"]] == [text.text for text in alone]
        assert [text["n_tokens"] for text in found["texts"]] == [len(text.tokens) for text in alone]
        assert [text["scores"]["letters"] for text in found["texts"]] == LETTERS([text.text for text in alone])
        assert (found["shift"] is None) == (plan.plan is None)
        if plan.plan is not None:
            assert found["shift"][0] == pytest.approx(found["shift"][1], rel=1e-3)


def test_all_plans_read_the_same_words_of_a_long_prompt(workbench: Bench, tmp_path: Path) -> None:
    """Room is left for the longest words in front, so the plain model reads no more than the one asked in words."""
    card = {"mix": {"prefixes": {"control": "Bread, butter, tea: "}}}
    (write_tiny_olmo(tmp_path / "asked") / "checkpoint.json").write_text(json.dumps(card))
    subject = Subject.of(find(str(tmp_path / "asked")), "float32")
    lens, sampling = workbench.lens(subject), Sampling(max_tokens=20)
    demonstrations = ("Bread, butter and tea", "A small garden", "The boats", "Sun and water")
    prompt = Prompt("0", listed(demonstrations), demonstrations=demonstrations)
    plans = tuple(read_plan(plan) for plan in ("none", "prefix"))
    plain, asked = run(GenerationUnit(subject, plans, "mine", "", 0, (prompt,), sampling, 1, ()), workbench)
    assert plain["dropped"] == asked["dropped"] > 0
    kept = listed(demonstrations[plain["dropped"] :])
    assert len(lens.encode(listed(demonstrations[plain["dropped"] - 1 :]))) <= lens.n_context - 20, "it alone had room"
    doses = fit(Plan("prefix"), lens).at(1)
    for row, one in ((plain, ()), (asked, doses)):
        (alone,) = generate(lens, [Row(kept, one)], sampling)
        assert row["texts"][0]["text"] == alone.text


def test_too_many_rows_for_memory_are_written_in_parts(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(SENTENCES[i % 5][:12], (), i) for i in range(11)]
    whole = unit.in_parts(lens, rows, Sampling(max_tokens=4), {})
    monkeypatch.setattr(unit, "CACHE_BYTES", 4 * 3 * 2 * 24 * 4 * 20)
    parts = unit.in_parts(lens, rows, Sampling(max_tokens=4), {})
    assert [one.tokens for one in parts] == [one.tokens for one in whole]


def test_other_weights_or_another_scorer_than_planned_are_refused(asked: Sweep, workbench: Bench) -> None:
    strengths = {(one.fingerprint, plan.label): 1.0 for one in asked.subjects for plan in asked.plans}
    one = asked.generations({**strengths})[0]
    assert isinstance(one, GenerationUnit)
    with pytest.raises(OtherVersion, match="have changed since the sweep was planned"):
        run(replace(one, subject=replace(one.subject, fingerprint="0" * 64)), workbench)
    with pytest.raises(OtherVersion, match="planned with 2"):
        run(replace(one, scorers=(("letters", "letters", "2"),)), workbench)


def test_a_plan_that_cannot_be_priced_is_named_with_its_checkpoint(asked: Sweep, workbench: Bench) -> None:
    dear = replace(asked.costs()[1], plans=tuple(read_plan(plan, "builtin") for plan in ("none", "iti@50nats")))
    with pytest.raises(
        NotPriced, match=r"^tiny-b under iti@50nats: .* out of reach\. .* Change this plan, or leave it"
    ):
        run(dear, workbench)
    two = replace(dear, plans=tuple(read_plan(plan, "builtin") for plan in ("none", "iti@4")))
    for edit in workbench.fitted(workbench.lens(two.subject), Plan(probes="builtin")).edits:
        edit.change.constant.fill_(torch.nan)
    with pytest.raises(NotPriced, match=r"^tiny-b under iti@4: Expected finite numbers.* leave it out"):
        run(two, workbench)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": (1, 1)}, "seeds name 1 twice"),
        ({"plans": (read_plan("none"), read_plan("none"))}, "plans name none twice"),
        ({"prompts": ()}, "without prompts"),
        ({"prompts": (PromptSet("a", ()), PromptSet("a", ()))}, "prompts name a twice"),
    ],
)
def test_a_sweep_names_nothing_twice_and_leaves_nothing_out(asked: Sweep, changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(asked, **changes)


def test_the_work_of_a_unit_grows_with_its_texts(asked: Sweep) -> None:
    strengths = {(one.fingerprint, plan.label): 1.0 for one in asked.subjects for plan in asked.plans}
    small, large = (sum(map(work, replace(asked, n_samples=n).generations({**strengths}))) for n in (1, 3))
    assert large == pytest.approx(3 * small)
    assert work(CostUnit(asked.subjects[0], (read_plan("iti@1nats"),), "", TEXT)) > work(asked.costs()[0]) / 10


def test_the_command_measures_and_goes_on_where_it_was(
    bench: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"checkpoints": (str(bench.folder / "tiny-a"),), "plans": ("none", "iti@4"), "out": tmp_path / "out"}
    words |= {"probes": "builtin", "machine": Machine("cpu", threads=1)}
    command.sweep(**words)
    whole = (tmp_path / "out" / "rows.jsonl").read_bytes()
    command.sweep(**words)
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == whole
    said, aside = capsys.readouterr()
    assert said == f"{tmp_path}/out/rows.jsonl\n" * 2
    rows = list(Results(tmp_path / "out").rows("generation"))
    assert sum(len(row["texts"]) for row in rows) == 2 * len(open_prompts("builtin"))
    scores = [text["scores"]["builtin"] for row in rows for text in row["texts"]]
    assert all(0 <= score <= 1 for score in scores if score is not None)
    n = sum(score is None for score in scores)
    assert 0 < n < len(scores) / 10, "a text without words has no score"
    first, again = aside.splitlines()
    assert re.fullmatch(rf"builtin: {n} of {len(scores)} texts have no score \([\w ]+: \d+.*\)\.", first)
    assert again == f"builtin: {n} of {len(scores)} texts have no score."
    assert {row["sampling"]["max_tokens"] for row in rows} == {20}
    made_with, *_ = json.loads((tmp_path / "out" / "sweep.json").read_text())["made_with"]
    known = {"torch": torch.__version__, "transformers": transformers.__version__, "device": "cpu", "threads": 1}
    assert {name: made_with[name] for name in known} == known
    with pytest.raises(OtherSweep, match="plans"):
        command.sweep(**{**words, "plans": ("none", "iti@8")})
    with pytest.raises(NoSuchPlan, match="Did you mean 'iti'"):
        command.sweep(**{**words, "plans": ("itti@8",)})


def test_progress_in_words() -> None:
    assert str(Progress(0.5, 3725.4)) == "50.0% done, 1:02:05 left"
    assert str(Progress(0.0, None)) == "0.0% done"


def test_workers_do_not_multiply_the_rate_of_a_service(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="would ask as many"):
        command.sweep(("demo-00",), ("none",), tmp_path, scorers=("openai",), ray="local")
