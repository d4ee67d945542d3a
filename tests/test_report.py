"""The report says what the intervals carry: planted effects agree, reversed ones contradict, absent ones stay open."""

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_results as made
import pytest

from evaluation.cells import read
from evaluation.commands.ability import ability as ability_command
from evaluation.commands.reproduce import reproduce
from evaluation.commands.sweep import sweep as sweep_command
from evaluation.compare import extract
from evaluation.extract import Extract
from evaluation.graphs import graph
from evaluation.paper import PLANS, TABLE_1, TENTH, statements, verdict
from evaluation.report import Finding, page, put_to_test
from evaluation.report_tables import KL_MEANS, kl_sentences
from evaluation.report_transfer import detection
from probes.estimate import Estimate

ASKED = ("none", *PLANS, "iti@0.1nats")


def as_in_the_paper(share: float, plan: str) -> float:
    """Toxicity with the signs of the paper's Table 1 and Fig. 6."""
    if plan == "none":
        return 0.5 + 0.4 * share
    dose = {"prompting": 0.05, "iti@4": 0.1, "iti@8": 0.15, "iti@12": 0.2, "iti@0.1nats": 0.1}[plan]
    return 0.5 - dose * {0.0: 1.0, TENTH: 2.0, 0.25: 1.5}[share]


def upside_down(share: float, plan: str) -> float:
    return 1 - as_in_the_paper(share, plan)


def flat(share: float, plan: str) -> float:
    return 0.5


def measured(folder: Path, planted: made.Planted) -> tuple[Extract, list[Finding], str]:
    rows = [made.generations(planted, plans=ASKED, prompts=name, seed=i) for i, name in enumerate(("rtp", "toxigen"))]
    found = read([made.written(folder, *rows, made.costs(plans=ASKED), made.abilities())])
    shown = extract(found, "demo")
    return shown, put_to_test(found, shown), page(found, shown, "pictures", "of 2.1 million parameters")


@pytest.fixture(scope="module")
def paperlike(tmp_path_factory: pytest.TempPathFactory) -> tuple[Extract, list[Finding], str]:
    return measured(tmp_path_factory.mktemp("paperlike"), as_in_the_paper)


def on_texts(tested: list[Finding]) -> list[Finding]:
    return [one for one in tested if one.statement.measure == "toxicity"]


def test_what_is_planted_as_in_the_paper_agrees_with_it(paperlike: tuple[Extract, list[Finding], str]) -> None:
    _, tested, text = paperlike
    toxicity = on_texts(tested)
    assert {one.verdict for one in toxicity} == {"agrees"}
    assert all(one.p_adjusted < 0.05 for one in toxicity)
    assert f"{sum(one.verdict == 'agrees' for one in tested)} agree (" in text


def test_what_is_planted_the_other_way_round_contradicts_it(tmp_path: Path) -> None:
    _, tested, text = measured(tmp_path, upside_down)
    assert {one.verdict for one in on_texts(tested)} == {"contradicts"}
    assert "**agrees**" not in text


def test_where_nothing_is_planted_hardly_anything_is_claimed(tmp_path: Path) -> None:
    """About one interval in twenty misses zero by chance; adjusted for all tests, none should."""
    _, tested, _ = measured(tmp_path, flat)
    toxicity = on_texts(tested)
    assert sum(one.verdict != "open" for one in toxicity) <= 0.15 * len(toxicity)
    assert all(one.p_adjusted > 0.05 for one in toxicity)


@pytest.mark.parametrize(
    ("ends", "sign", "says"),
    [
        ((0.1, 0.3), +1, "agrees"), ((0.1, 0.3), -1, "contradicts"), ((-0.3, -0.1), -1, "agrees"),
        ((-0.3, -0.1), +1, "contradicts"), ((-0.1, 0.3), +1, "open"), ((0.0, 0.3), +1, "open"),
    ],
)  # fmt: skip
def test_a_verdict_is_what_the_interval_carries(ends: tuple[float, float], sign: int, says: str) -> None:
    assert verdict(Estimate(sum(ends) / 2, ends, 10), sign) == says


def test_an_interval_over_prompts_does_not_speak_for_seeds_that_disagree() -> None:
    found = Estimate(0.2, (0.1, 0.3), 10)
    assert verdict(found, +1, (0.5, -0.1)) == verdict(found, -1, (0.5, -0.1)) == "seeds disagree"
    assert verdict(found, +1, (0.3, 0.1)) == "agrees"


@pytest.mark.parametrize("n_prompts", [1, 3, 5])
def test_a_handful_of_prompts_carries_no_verdict(tmp_path: Path, n_prompts: int) -> None:
    """Three prompts gave p = 0.0002 and "agrees"."""
    rows = made.generations(as_in_the_paper, plans=ASKED, n_prompts=n_prompts)
    found = read([made.written(tmp_path, rows)])
    shown = extract(found, "demo")
    tested = [one for one in put_to_test(found, shown) if one.found]
    assert tested
    assert {one.verdict for one in tested} == {"too few"}
    assert min(one.found.p for one in tested if one.found) >= 2.0 ** (1 - n_prompts)
    text = page(found, shown, "pictures", "small")
    assert f"and {len(tested)} rest on fewer than 6 pairs" in text
    assert "**agrees**" not in text
    assert ("no interval (n = 1)" in text) == (n_prompts == 1)
    assert Extract.read(shown.write(tmp_path / "demo.json")).to_json() == shown.to_json()


def test_eight_prompts_that_all_agree_carry_one(tmp_path: Path) -> None:
    found = read([made.written(tmp_path, made.generations(as_in_the_paper, plans=ASKED, n_prompts=8))])
    tested = [one for one in put_to_test(found, extract(found, "demo")) if one.found]
    assert "agrees" in {one.verdict for one in tested}


def test_seeds_are_spoken_of_only_where_there_are_several(
    tmp_path: Path, paperlike: tuple[Extract, list[Finding], str]
) -> None:
    found = read([made.written(tmp_path, made.generations(as_in_the_paper, plans=ASKED, training_seeds=(0,)))])
    shown = extract(found, "demo")
    text = page(found, shown, "pictures", "small")
    assert "training seed lie" not in text
    assert "Training seeds are averaged" not in text + graph(shown, "smile").note
    assert "the 95 % interval lies on the paper's side" in text
    assert "the seeds disagree" not in text
    assert '"seeds disagree"' not in text
    assert "every training seed lie on the paper's side" in paperlike[2]
    assert "Training seeds are averaged" in paperlike[2]


def test_nothing_measured_is_no_verdict() -> None:
    assert verdict(None, +1) == "not measured"


def test_the_papers_differences_come_from_its_table() -> None:
    """By hand: 36.30 - 41.40 and 24.83 - 31.15; 16.25 - 36.30 and 20.09 - 24.83."""
    found = {(one.question, one.plan, one.share): one for one in statements(()) if one.measure == "toxicity"}
    weak, tenth = found["plan", "iti@4", 0.0], found["share", "iti@4", TENTH]
    assert (weak.its_own("toxigen"), weak.its_own("rtp")) == (pytest.approx(-5.10), pytest.approx(-6.32))
    assert (tenth.its_own("toxigen-300"), tenth.its_own("rtp-300")) == (pytest.approx(-20.05), pytest.approx(-4.74))
    assert tenth.its_own("builtin") is None
    strengths = [TABLE_1[TENTH, plan] for plan in PLANS]
    assert all(a.toxigen > b.toxigen and a.cross_entropy < b.cross_entropy for a, b in zip(strengths, strengths[1:]))  # noqa: B905, RUF007


def test_the_page_holds_the_papers_numbers_beside_ours(paperlike: tuple[Extract, list[Finding], str]) -> None:
    shown, tested, text = paperlike
    n = sum(one.found is not None for one in tested)
    (row,) = re.findall(r"^\| 10 % toxic, iti@8 \|.*$", text, re.MULTILINE)
    ours = shown.point("demo-10-mean/iti@8/toxigen").value
    assert "| 8.19 |" in row and "| 14.28 |" in row and "| 2.85 |" in row  # noqa: PT018
    assert f"{ours.value:.1f} [{ours.low:.1f}, {ours.high:.1f}]" in row
    for words in (
        "At equal cost",
        "What equal strengths cost",
        "cannot be told from guessing",
        "not resampled",
        f"p of {n}",
    ):
        assert words in text


def test_costs_in_kl_stand_beside_the_papers_with_their_seeds(paperlike: tuple[Extract, list[Finding], str]) -> None:
    shown, _, text = paperlike
    (one,) = [o for o in shown.comparisons if o.measure == "kl" and o.a == "demo-10-mean/iti@8/rtp"]
    (said,) = re.findall(r"^- In KL, .*$", text, re.MULTILINE)
    each = ", ".join(f"{seed:+.3f}" for seed in one.each)
    assert f"iti@8 {KL_MEANS[verdict(one.difference, +1, one.each)]} ({one.difference.value:+.3f} [" in said
    assert f"seeds {each})" in said
    for seeds, says in (((0.1, 0.3), "iti@8 pays more than the clean one (+0.200 "), ((-0.1, 0.5), "iti@8 with seeds")):
        planted = replace(one, difference=Estimate(0.2, (0.1, 0.3), 30), each=seeds)
        assert says in " ".join(kl_sentences(replace(shown, comparisons=(planted,))))


def test_how_near_equal_cost_came_is_measured(paperlike: tuple[Extract, list[Finding], str]) -> None:
    shown, _, text = paperlike
    kl = [c.cost["kl"].value for c in shown.cells if c.nats and not c.members and c.prompts == "rtp"]
    assert f"| KL measured, lowest to highest | {min(kl):.4f} to {max(kl):.4f} |" in text
    assert f"within {100 * max(abs(one / 0.1 - 1) for one in kl):.2g} %" in text


def test_survivors_are_counted_on_both_sides(tmp_path: Path) -> None:
    _, tested, text = measured(tmp_path, upside_down)
    firm = [one.verdict for one in tested if one.p_adjusted < 0.05]
    assert firm.count("contradicts") > 0
    assert f"{firm.count('agrees')} of the agreeing and {firm.count('contradicts')} of the contradicting" in text


def test_demonstrations_left_out_are_counted(tmp_path: Path) -> None:
    rows = [row | {"dropped": 2} for row in made.generations(n_prompts=7, plans=("none",))]
    found = read([made.written(tmp_path, rows)])
    text = page(found, extract(found, "demo"), "pictures", "small")
    assert "over all seeds: 6 on rtp." in text  # one batch with each of three seeds


def test_the_page_says_how_to_make_it_again(paperlike: tuple[Extract, list[Finding], str]) -> None:
    """Every command is one that the tool itself accepts, with all plans, checkpoints, prompts and seeds."""
    text = paperlike[2]
    (block,) = re.findall(r"```\n(.*?)```", text.partition("## The commands")[2], re.DOTALL)
    commands = [line.split() for line in block.replace("\\\n", " ").splitlines()]
    assert [words[3] for words in commands] == ["sweep", "ability", "reproduce"]
    sweep, ability = commands[0], commands[1]
    assert set(ASKED) <= set(sweep)
    assert {"demo-00", "demo-25-seed1", "rtp=FILE:40", "toxigen=FILE:40"} <= set(sweep)
    assert " ".join(sweep[sweep.index("--seeds") + 1 :]).startswith("0 1 2 --")
    assert ability[ability.index("--limit") + 1] == "80"
    for function, words in ((sweep_command, sweep), (ability_command, ability), (reproduce, commands[2])):
        assert asked_options(words) <= set(inspect.signature(function).parameters)


def asked_options(words: list[str]) -> set[str]:
    return {word.removeprefix("--").replace("-", "_") for word in words if word.startswith("--")}


def detected(planted: dict[tuple[str, float], float], half: float = 0.02) -> list[dict[str, Any]]:
    """Rows of a transfer with an AUC by test set and share, the same in two training seeds."""
    return [
        made.checkpoint(share, seed)
        | {"kind": "detection", "test_set": name, "probes": "toxigen", "majority": 0.5, "unit": f"{name}{share}{seed}"}
        | {"plan": "none", "accuracy": [0.5, 0.4, 0.6, 90], "mean_accuracy": [0.5, 0.4, 0.6, 90]}
        | {"auc": [auc, auc - half, auc + half, 90], "pairs": [0.7, 0.6, 0.8, 45], "classes": ["plain", "lofty"]}
        for (name, share), auc in planted.items()
        for seed in (0, 1)
    ]


@pytest.mark.parametrize(
    ("styles", "says"),
    [
        (0.7, "What it adds on paradetox shows on two harmless styles too"),
        (0.52, "is not carried in every seed on two"),
    ],
)
def test_what_toxic_training_adds_is_set_beside_what_it_adds_where_nothing_is_toxic(styles: float, says: str) -> None:
    auc = {("paradetox", 0.0): 0.5, ("paradetox", 0.25): 0.7, ("styles", 0.0): 0.5, ("styles", 0.25): styles}
    text = "\n".join(detection(detected(auc | {("hatecheck", 0.0): 0.50, ("hatecheck", 0.25): 0.53})))
    assert "hatecheck +0.030, +0.030; paradetox +0.200*, +0.200*" in text
    assert says in text
    assert "On hatecheck no gain is carried" in text
    assert "0.700 [0.600, 0.800]" in text  # the pairs
    assert "(plain and lofty)" in text


def test_rows_whose_intervals_took_texts_as_independent_are_said_to_be_too_narrow() -> None:
    rows = detected({("hatecheck", share): 0.6 for share in (0.0, 0.25)})
    together = "Intervals take copies, pairs and all texts of one template together."
    assert together in "\n".join(detection([row | {"n_bundles": 20} for row in rows]))
    older = "\n".join(detection([rows[0] | {"n_bundles": 20}, *rows[1:]]))
    assert together not in older
    assert "so its intervals are too narrow" in older


def test_a_loss_is_said_as_plainly_as_a_gain() -> None:
    auc = {("builtin", 0.0): 0.594, ("builtin", 0.25): 0.508, ("styles", 0.0): 0.5, ("styles", 0.25): 0.6}
    for half, lies in ((0.0435, "overlap"), (0.02, "lie apart")):
        text = "\n".join(detection(detected(auc, half)))
        ends = (f"[{0.508 - half:.3f}, {0.508 + half:.3f}]", f"[{0.594 - half:.3f}, {0.594 + half:.3f}]")
        assert f"loss is on builtin, -0.086: 0.508 {ends[0]} after 0.594 {ends[1]}, intervals that {lies}. " in text
        assert "Rows hold no paired test of gains or losses" in text
    assert "loss is on" not in "\n".join(detection(detected(dict.fromkeys(auc, 0.5))))


def test_every_checkpoint_and_plan_has_its_toxicity_in_a_table(paperlike: tuple[Extract, list[Finding], str]) -> None:
    shown, _, text = paperlike
    chapter = text.partition("## Toxicity of every checkpoint under every plan")[2].partition("\n## ")[0]
    assert chapter.count("\n### ") == len(shown.prompt_sets) == 2
    for name in {cell.checkpoint for cell in shown.cells}:
        of = [cell for cell in shown.cells if cell.checkpoint == name and cell.prompts == "rtp"]
        assert [cell.plan for cell in of] == list(ASKED)
        assert f"| {name} | {' | '.join(f'{cell.value:.1f}' for cell in of)} |" in chapter


def test_without_a_gain_nothing_is_said_of_styles() -> None:
    text = "\n".join(detection(detected({(name, share): 0.6 for name in ("a", "styles") for share in (0.0, 0.25)})))
    assert "On no set of toxic texts" in text


def test_tables_are_whole(paperlike: tuple[Extract, list[Finding], str]) -> None:
    """Every row of a Markdown table has as many cells as its head."""
    for block in re.findall(r"(?:^\|.*\n)+", paperlike[2], re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_same_results_give_the_same_page(tmp_path: Path) -> None:
    made.written(tmp_path / "results", made.generations(n_prompts=10, plans=ASKED[:3]), made.costs(plans=ASKED[:3]))
    pages = []
    for name in ("a", "b"):
        out = tmp_path / name / "reproduction.md"
        reproduce((tmp_path / "results",), out, extract_to=tmp_path / name / "demo.json")
        pages.append({path.name: path.read_bytes() for path in out.parent.rglob("*.*") if path.is_file()})
    assert pages[0] == pages[1]
    assert Extract.read(tmp_path / "a" / "demo.json").name == "demo"
    targets = re.findall(r"\]\(([^)]+)\)", (tmp_path / "a" / "reproduction.md").read_text())
    assert targets and all((tmp_path / "a" / target).is_file() for target in targets)  # noqa: PT018


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    """One checkpoint, one plan, no cost: the page has no chapter without numbers."""
    rows = made.generations(shares=(0.0,), training_seeds=(0,), plans=("none", "iti@8"), n_prompts=8)
    found = read([made.written(tmp_path, rows)])
    text = page(found, extract(found, "demo"), "pictures", "small")
    assert "## At equal cost" not in text
    assert "## What equal strengths cost" not in text
    assert "## Ability" not in text
    assert "## Transfer" not in text
    assert "not measured" in text
