"""Comparisons of a sweep's cells: planted effects are found, absent ones are not, and nothing unlike is compared."""

import csv
import io
from pathlib import Path
from typing import Any

import made_results as made
import numpy as np
import pytest

from evaluation.cells import Mixed, read
from evaluation.commands.compare import compare
from evaluation.compare import Contrast, answered, beyond_share, extract
from evaluation.extract import Cell, Compared, Extract, NoResults
from evaluation.family import Member, Shown, baselines, shown, tops
from evaluation.graphs import on
from evaluation.results import Results
from evaluation.tables import csv_files, page
from evaluation.toxicity import toxicity
from probes.lexicon import Lexicon


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.written(tmp_path_factory.mktemp("results"), made.generations(), made.costs(), made.abilities())


@pytest.fixture(scope="module")
def found(folder: Path) -> Extract:
    return extract(read([folder]), "mine")


def of(found: Extract, question: str, a: str, measure: str = "toxicity") -> Compared:
    (one,) = [c for c in found.comparisons if (c.question, c.a, c.measure) == (question, f"{a}/rtp", measure)]
    return one


def test_a_planted_effect_is_found_with_its_size(found: Extract) -> None:
    """The plan takes 0.4 × 1.5 of the toxicity of the 10 % models, 0.2 of that of the clean ones."""
    for share, name in ((0.0, "demo-0-mean"), (0.10, "demo-10-mean")):
        planted = 100 * (made.smile(share, "iti@8") - made.smile(share, "none"))
        one = of(found, "plan", f"{name}/iti@8")
        assert one.difference.low < one.difference.value < one.difference.high < 0
        assert one.difference.value == pytest.approx(planted, abs=3)
        assert one.holm < 0.05


def test_what_was_not_planted_is_not_found(found: Extract) -> None:
    one = of(found, "plan", "demo-10-mean/prompting")
    assert one.difference.low < 0 < one.difference.high
    assert one.holm > 0.05


def test_a_gain_is_the_difference_of_differences(found: Extract) -> None:
    gain = of(found, "gain", "demo-10-mean/iti@8").difference.value
    here = of(found, "plan", "demo-10-mean/iti@8").difference.value
    there = of(found, "plan", "demo-0-mean/iti@8").difference.value
    assert gain == pytest.approx(here - there)
    assert gain < -10


def test_intervals_of_a_paired_difference_hold_the_planted_one() -> None:
    """1,000 sweeps of 60 prompts and 3 seeds: prompts differ, and so does what the plan does to them."""
    rng, n = np.random.default_rng(0), 1000
    hard = rng.normal(50, 20, (n, 60, 1))
    plain = hard + rng.normal(0, 15, (n, 60, 3))
    steered = hard - 4 + rng.normal(0, 5, (n, 60, 1)) + rng.normal(0, 15, (n, 60, 3))
    scores = {(str(i), plan): values[i] for plan, values in (("none", plain), ("iti", steered)) for i in range(n)}
    points = [Shown(str(i), "f", None, None, (str(i),)) for i in range(n)]
    asked = [
        Contrast(
            "plan", "rtp", (point, "iti"), (point, "none"), (((1, (point.name, "iti")), (-1, (point.name, "none"))),)
        )
        for point in points
    ]
    found = answered(asked, scores, "toxicity")
    assert 0.93 <= np.mean([one.difference.low <= -4 <= one.difference.high for one in found]) <= 0.97
    unpaired = np.sqrt((plain.mean(axis=2).var(axis=1) + steered.mean(axis=2).var(axis=1)) / 60).mean()
    paired = np.mean([one.difference.high - one.difference.low for one in found]) / (2 * 1.96)
    assert paired < 0.65 * unpaired  # what pairing is for


def test_a_cell_agrees_with_the_measures_of_a_list_of_scores(folder: Path, found: Extract) -> None:
    """Another road: evaluation.toxicity on the same scores, one by one."""
    rows = [r for r in made.generations() if r["checkpoint"] == "demo-10" and r["plan"] == "iti@4"]
    scored = [(t["prompt"], r["seed"], t["scores"]["builtin"]) for r in rows for t in r["texts"]]
    other, cell = toxicity(scored, k=3), found.point("demo-10/iti@4/rtp")
    assert isinstance(cell, Cell)
    for ours, theirs, digits in (
        (cell.measures["toxicity"], other.mean, 1.0),
        (cell.measures["share"], other.share, 0.02),
        (cell.measures["expected_maximum"], other.expected_maximum, 0.02),
        (cell.measures["probability"], other.probability, 0.02),
    ):
        assert theirs is not None
        assert ours.value == pytest.approx(theirs.value)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=digits)  # other draws
        assert ours.n == theirs.n == 40
    assert cell.n_texts == 120


def test_a_mean_over_training_seeds_shows_them_side_by_side(found: Extract) -> None:
    one = of(found, "plan", "demo-10-mean/iti@8")
    apart = [found.point(f"{name}/{plan}/rtp").value.value for name in ("demo-10", "demo-10-seed1")
             for plan in ("iti@8", "none")]  # fmt: skip
    assert one.each == pytest.approx((apart[0] - apart[1], apart[2] - apart[3]))
    assert one.difference.value == pytest.approx(np.mean(one.each))
    cell = found.point("demo-10-mean/iti@8/rtp")
    assert cell.members == ("demo-10/iti@8/rtp", "demo-10-seed1/iti@8/rtp")
    assert cell.value.value == pytest.approx((apart[0] + apart[2]) / 2)


def test_training_seeds_side_by_side_average_to_the_difference_where_scores_are_missing(tmp_path: Path) -> None:
    rows = made.generations(shares=(0.0,), plans=("none", "iti@8"), missing=0.5)
    (one,) = [c for c in extract(read([made.written(tmp_path, rows)]), "mine").comparisons if c.each]
    assert one.n_missing > 0
    assert one.difference.value == pytest.approx(np.mean(one.each))


def test_the_worst_is_of_one_seed_s_samples_whatever_the_seeds(tmp_path: Path) -> None:
    """Another road: evaluation.toxicity with k = 4, though 8 were written to each prompt, some without a score."""
    rows = made.generations(
        shares=(0.0,), training_seeds=(0,), plans=("none",), n_prompts=12, seeds=(0, 1), n_samples=4, missing=0.4
    )
    scored = [(t["prompt"], (r["seed"], t["sample"]), t["scores"]["builtin"]) for r in rows for t in r["texts"]]
    other = toxicity(scored, k=4)
    cell = extract(read([made.written(tmp_path, rows)]), "mine").point("demo-00/none/rtp")
    assert isinstance(cell, Cell)
    for name, theirs in (("expected_maximum", other.expected_maximum), ("probability", other.probability)):
        assert theirs is not None
        assert cell.measures[name].value == pytest.approx(theirs.value)
        assert cell.measures[name].n == theirs.n < 12


def test_families_whose_text_has_more_windows_are_compared_each_by_itself(tmp_path: Path) -> None:
    """Another tokenizer makes other windows; what one family comes to does not depend on the other."""

    def of_family(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
        named = {"family": name, "fingerprint": name * 16}
        return [row | named | {"checkpoint": f"{name}-{row['checkpoint']}", "unit": name + row["unit"]} for row in rows]

    def costs(*folders: Path) -> list[Compared]:
        return [c for c in extract(read(folders), "mine").comparisons if c.measure == "kl"]

    few = {"shares": (0.0, 0.10), "plans": ("none", "iti@8")}
    short, long = (
        made.written(
            tmp_path / name, of_family(made.generations(**few, n_prompts=4), name),
            of_family(made.costs(**few, n_windows=n), name),
        )
        for name, n in (("short", 20), ("long", 30))
    )  # fmt: skip
    both = {one.a: one for one in costs(short, long)}
    assert {one.difference.n for one in both.values()} == {20, 30}
    for one in (*costs(short), *costs(long)):
        assert both[one.a].difference == one.difference


def test_beyond_a_share_the_same_training_seeds_are_compared(tmp_path: Path) -> None:
    rows = made.generations(shares=(0.10, 0.25), training_seeds=(0, 1, 2), plans=("none",), n_prompts=6)
    some = [row for row in rows if row["training_seed"] != (2 if row["toxic_share"] == 0.10 else 0)]
    (grid,) = read([made.written(tmp_path / "some", some)]).grids.values()
    assert beyond_share(grid, 0.10) == []  # seeds 0 and 1 against 1 and 2
    (grid,) = read([made.written(tmp_path / "all", rows)]).grids.values()
    (one,) = beyond_share(grid, 0.10)
    assert (one.a, one.b) == ("demo-25-mean/none/rtp", "demo-10-mean/none/rtp")


def test_dropped_demonstrations_count_once_for_all_who_read_the_prompts(tmp_path: Path) -> None:
    rows = [row | {"dropped": 2} for row in made.generations(n_prompts=10)]  # two batches in each of three seeds
    again = [row | {"unit": row["unit"] + "-again"} for row in rows if row["plan"] == "none"]
    assert read([made.written(tmp_path, rows, again)]).grids["rtp"].dropped == 2 * 2 * 3


def test_comparisons_are_counted_and_p_is_adjusted_for_them(found: Extract) -> None:
    """Three shares by four plans; two shares beside the clean one by five plans, and by four."""
    counts = {q: [c.of for c in found.comparisons if c.question == q and c.measure == "toxicity"] for q in made_of}
    assert {question: (len(of), set(of)) for question, of in counts.items()} == made_of
    assert all(c.holm >= c.p for c in found.comparisons)


made_of = {"plan": (12, {12}), "share": (10, {10}), "gain": (8, {8})}


def test_costs_are_compared_too(found: Extract) -> None:
    assert of(found, "share", "demo-10-mean/iti@8", "kl").difference.low < 0.02
    assert found.point("demo-10/iti@8/rtp").cost["kl"].value == pytest.approx(0.16, rel=0.2)
    assert found.cost_text["name"] == "plain.txt"


def test_costs_of_plans_that_wrote_to_the_second_prompt_set_alone_are_compared_too(tmp_path: Path) -> None:
    few = {"shares": (0.0, 0.10), "training_seeds": (0,)}
    rtp, toxigen = (
        made.generations(**few, plans=plans, n_prompts=4, prompts=prompts)
        for prompts, plans in (("rtp", ("none", "iti@4")), ("toxigen", ("none", "iti@4", "iti@8")))
    )
    found = extract(read([made.written(tmp_path, rtp, toxigen, made.costs(**few))]), "mine")
    costs = {one.a: one for one in found.comparisons if one.measure == "kl"}
    assert list(costs) == ["demo-10/iti@4/rtp", "demo-10/iti@8/toxigen"]  # the others wrote nothing
    assert {one.of for one in costs.values()} == {2}
    for one in costs.values():
        assert found.point(one.b).key == one.a.replace("demo-10", "demo-00")


def test_missing_scores_are_left_out_in_pairs_and_counted(tmp_path: Path) -> None:
    rows = made.generations(shares=(0.0,), training_seeds=(0,), plans=("none", "iti@8"), missing=0.2)
    gaps = [{t["prompt"] + str(r["seed"]) for r in rows if r["plan"] == plan for t in r["texts"]
             if t["scores"]["builtin"] is None} for plan in ("none", "iti@8")]  # fmt: skip
    found = extract(read([made.written(tmp_path, rows)]), "mine")
    assert found.point("demo-00/none/rtp").n_missing == sum(
        t["scores"]["builtin"] is None for r in rows if r["plan"] == "none" for t in r["texts"]
    )
    (one,) = found.comparisons
    union = sum(
        a["scores"]["builtin"] is None or b["scores"]["builtin"] is None
        for r in rows if r["plan"] == "none"
        for s in rows if s["plan"] == "iti@8" and s["unit"] == r["unit"]
        for a, b in zip(r["texts"], s["texts"], strict=True)
    )  # fmt: skip
    assert one.n_missing == union > len(gaps) > 0


def test_scores_of_two_scorers_or_two_versions_never_meet(tmp_path: Path) -> None:
    rows = made.generations(shares=(0.0,), training_seeds=(0,), n_prompts=4)
    both = [row | {"scorers": {"builtin": "1-ab12cd34", "openai": "7"}} for row in rows]
    made.written(tmp_path / "both", both)
    with pytest.raises(NoResults, match=r"several scorers.*--scorer: builtin, openai"):
        read([tmp_path / "both"])
    assert read([tmp_path / "both"], "builtin").scorer == ("builtin", "1-ab12cd34")
    with pytest.raises(NoResults, match="no scores of 'perspective'"):
        read([tmp_path / "both"], "perspective")
    newer = [row | {"unit": row["unit"] + "b", "scorers": {"builtin": "2-ffffffff"}} for row in rows]
    made.written(tmp_path / "newer", rows, newer)
    with pytest.raises(Mixed, match=r"two scorers \(builtin 1-ab12cd34; builtin 2-ffffffff\)"):
        read([tmp_path / "newer"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fingerprint": "f" * 64}, "two weights of demo-00"),
        ({"prompts": {"name": "rtp", "digest": "0" * 64, "first": 0, "n": 4}}, "two prompt lists named rtp"),
        ({"sampling": {"temperature": 0.5, "top_p": 0.9, "max_tokens": 20}}, "two samplings"),
        ({"n_samples": 2}, "two numbers of samples"),
    ],
)
def test_what_differs_in_more_than_the_plan_is_refused(tmp_path: Path, change: dict, words: str) -> None:
    rows = made.generations(shares=(0.0,), training_seeds=(0,), n_prompts=4)
    made.written(tmp_path, rows, [row | {"unit": row["unit"] + "b"} | change for row in rows])
    with pytest.raises(Mixed, match=words):
        read([tmp_path])


def test_one_label_for_two_plans_is_refused(tmp_path: Path) -> None:
    """With --probes, or with nats, as the same words in front of the @ may mean."""
    rows = made.generations(shares=(0.0,), training_seeds=(0,), plans=("none", "iti@8"), n_prompts=4)
    asked = made.asked("iti@8") or {}
    for change, words in (
        ({"plan": asked["plan"] | {"probes": "mine"}}, r"two plans named iti@8 \(defaults; probes=mine\)"),
        ({"nats": 0.1}, r"two plans named iti@8 \(defaults; nats=0\.1\)"),
    ):
        other = [row | {"unit": row["unit"] + "b", "asked": asked | change} for row in rows if row["plan"] == "iti@8"]
        with pytest.raises(Mixed, match=words):
            read([made.written(tmp_path / words[-9:-3], rows, other)])
    found_elsewhere = [row | {"unit": "c", "asked": row["asked"] and asked | {"strength": 7.9}} for row in rows]
    assert read([made.written(tmp_path / "strength", rows, found_elsewhere)]).grids["rtp"].n_texts == (12, 12)


def test_two_dtypes_of_one_checkpoint_are_refused(tmp_path: Path) -> None:
    rows = made.generations(shares=(0.0,), training_seeds=(0,), n_prompts=4)
    halves = [[row | {"unit": dtype, "dtype": dtype} for row in rows] for dtype in ("float32", "bfloat16")]
    with pytest.raises(Mixed, match=r"two dtypes of demo-00 \(float32; bfloat16\)"):
        read([made.written(tmp_path, *halves)])


def test_two_choices_of_questions_are_refused(tmp_path: Path) -> None:
    """Another --limit, or a plan whose words in front leave less room for questions."""
    for plan in ("none", "prompting"):
        rows = made.abilities(shares=(0.0,), training_seeds=(0,))
        fewer = [
            row | {"unit": row["unit"] + "b", "plan": plan, "asked": made.asked(plan), "digest": "0" * 64,
                   "correct": row["correct"][:20]} for row in rows
        ]  # fmt: skip
        folder = made.written(tmp_path / plan, made.generations(shares=(0.0,), n_prompts=4), rows, fewer)
        with pytest.raises(Mixed, match=r"two choices of mmlu questions for demo-00 \(80 of them, f+; 20 of them, 0+"):
            read([folder])


def test_a_cell_without_any_score_is_left_out(tmp_path: Path) -> None:
    rows = made.generations(shares=(0.0,), plans=("none", "iti@8"), n_prompts=4)
    silent = made.generations(shares=(0.0,), plans=("none", "iti@8"), n_prompts=4, missing=1)
    pairs = zip(rows, silent, strict=True)
    half = [b if b["plan"] == "iti@8" and b["training_seed"] == 1 else a for a, b in pairs]
    found = extract(read([made.written(tmp_path / "half", half)]), "mine")
    assert [cell.key for cell in found.cells] == [
        "demo-00/none/rtp", "demo-00/iti@8/rtp", "demo-00-seed1/none/rtp", "demo-0-mean/none/rtp",
    ]  # fmt: skip
    with pytest.raises(NoResults, match="No text"):
        extract(read([made.written(tmp_path / "all", silent)]), "mine")


def test_costs_on_two_texts_are_not_compared(tmp_path: Path) -> None:
    costs = made.costs(shares=(0.0,), training_seeds=(0,), plans=("none",))
    other = [row | {"unit": "other", "text": "c4", "digest": "c" * 64} for row in costs]
    made.written(tmp_path, made.generations(shares=(0.0,), n_prompts=4), costs, other)
    with pytest.raises(Mixed, match=r"two texts that costs are measured on \(plain\.txt e+; c4 c+\)"):
        read([tmp_path])


def test_the_order_of_rows_does_not_matter(folder: Path, found: Extract, tmp_path: Path) -> None:
    rows = [*made.generations(), *made.costs(), *made.abilities()]
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = sorted((rows[i] for i in order), key=lambda row: made.PLANS.index(row["plan"]))
    again = extract(read([made.written(tmp_path, shuffled)]), "mine")
    assert again.to_json() == found.to_json()


def test_rows_that_two_folders_share_count_once(folder: Path, found: Extract) -> None:
    assert extract(read([folder, folder]), "mine").to_json() == found.to_json()


def test_texts_that_two_sweeps_wrote_count_once(folder: Path, found: Extract, tmp_path: Path) -> None:
    plain = [
        row | {"unit": row["unit"] + "-again"} for row in Results(folder).rows("generation") if row["plan"] == "none"
    ]
    again = extract(read([folder, made.written(tmp_path, plain)]), found.name)
    assert again.cells == found.cells


def test_an_extract_survives_its_file(found: Extract, tmp_path: Path) -> None:
    path = found.write(tmp_path / "mine.json")
    again = Extract.read(path)
    assert again.to_json() == found.to_json()
    assert again.point("demo-10-mean/iti@8/rtp").in_words() == found.point("demo-10-mean/iti@8/rtp").in_words()
    path.write_text(path.read_text()[:-200])
    with pytest.raises(ValueError, match=r"mine\.json is no extract"):
        Extract.read(path)
    with pytest.raises(NoResults, match="sweep"):
        Extract.read(tmp_path / "none.json")


def test_every_cell_keeps_generations_of_the_same_prompts_with_listed_words_masked(tmp_path: Path) -> None:
    rows = made.generations(n_prompts=30)
    word = next(w for w in WORDS if w in Lexicon.builtin())
    for row in rows:
        for text in row["texts"]:
            text["text"] = f" they are {word}"
    found = extract(read([made.written(tmp_path, rows)]), "mine")
    prompts = {tuple(sample.prompt for sample in samples) for samples in found.generations.values()}
    assert len(prompts) == 1
    assert len(next(iter(prompts))) == 8
    assert word not in found.to_json()
    mean = found.point("demo-10-mean/iti@8/rtp")
    assert isinstance(mean, Cell)
    assert sum(len(found.generations[member]) for member in mean.members) == 16
    assert {sample.text for sample in found.generations["demo-10/none/rtp"]} == {
        f" they are {word[0]}{'*' * (len(word) - 1)}"
    }


WORDS = ("stupid", "idiot", "damn", "crap", "moron", "hell")
"""Mild ones, of which the list has at least one."""


def test_tables_hold_every_cell_and_comparison(found: Extract) -> None:
    files = csv_files(found)
    cells = list(csv.DictReader(io.StringIO(files["cells.csv"])))
    assert [row["key"] for row in cells] == [cell.key for cell in found.cells]
    assert float(cells[0]["toxicity_low"]) == pytest.approx(found.cells[0].value.low, rel=1e-5)
    assert len(list(csv.DictReader(io.StringIO(files["comparisons.csv"])))) == len(found.comparisons)
    text = page(found)
    assert all(cell.checkpoint in text and cell.plan in text for cell in tops_of(found))
    assert "not resampled" in text
    assert "p of 12" in text


def tops_of(found: Extract) -> list[Cell]:
    return [cell for cell in on(found, "rtp") if cell.members]


def test_checkpoints_without_share_or_seed_stand_alone() -> None:
    members = [
        Member("mine", "mine", None, None),
        *(Member(f"d-{s}-{i}", "d", s, i) for s in (0.0, 0.1) for i in (0, 1)),
    ]
    assert [point.slug for point in tops(shown(members))] == ["d-0-mean", "d-10-mean", "mine"]
    assert baselines(members) == {
        "mine": "mine", "d-0.0-0": "d-0.0-0", "d-0.0-1": "d-0.0-1", "d-0.1-0": "d-0.0-0", "d-0.1-1": "d-0.0-1",
    }  # fmt: skip


def test_a_key_holds_no_spaces() -> None:
    (point,) = shown([Member("my model", "f", None, None)])
    assert point.key("iti@8", "my prompts") == "my_model/iti@8/my_prompts"


def test_two_checkpoints_of_one_training_seed_are_no_mean_over_seeds() -> None:
    twins = [Member("a", "f", 0.1, 0), Member("b", "f", 0.1, 0)]
    third = Member("c", "f", 0.1, 1)
    assert [one.name for one in shown([*twins, third])] == ["a", "b", "c"]  # steps of one run, perhaps
    assert len(shown([twins[0], third])) == 3


def test_nothing_measured_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(NoResults, match="no generations"):
        extract(read([tmp_path]), "mine")
    with pytest.raises(NoResults, match="Name at least one folder of results"):
        compare((), tmp_path / "mine")


def test_a_sweep_that_is_half_done_can_be_looked_at(tmp_path: Path) -> None:
    rows = [row for row in made.generations() if not (row["checkpoint"] == "demo-25-seed1" and row["seed"] > 0)]
    found = extract(read([made.written(tmp_path, rows)]), "mine")
    assert of(found, "plan", "demo-25-mean/iti@8").difference.n == 40


def test_the_command_leaves_tables_pictures_and_what_the_page_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = made.generations(plans=("none", "iti@8"), n_prompts=6)
    compare((made.written(tmp_path / "rows", rows),), tmp_path / "mine")
    names = {path.name for path in (tmp_path / "mine").iterdir()}
    tables = {"extract.json", "compare.md", "cells.csv", "comparisons.csv"}
    assert names == tables | {"smile-rtp-strength.svg", "smile-rtp-strength.png"}
    assert Extract.read(tmp_path / "mine" / "extract.json").name == "mine"
    assert capsys.readouterr().out.startswith("18 cells, 9 comparisons: ")
