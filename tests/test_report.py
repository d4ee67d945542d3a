"""The report says what the intervals carry: planted effects agree, reversed ones contradict, absent ones stay open."""

import re
from pathlib import Path

import made_results as made
import pytest

from evaluation.cells import read
from evaluation.commands.reproduce import reproduce
from evaluation.compare import extract
from evaluation.extract import Extract
from evaluation.paper import PLANS, TABLE_1, TENTH, statements, verdict
from evaluation.report import Finding, page, put_to_test
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
    assert verdict(Estimate(sum(ends) / 2, *ends, 10), sign) == says


def test_an_interval_over_prompts_does_not_speak_for_seeds_that_disagree() -> None:
    found = Estimate(0.2, 0.1, 0.3, 10)
    assert verdict(found, +1, (0.5, -0.1)) == verdict(found, -1, (0.5, -0.1)) == "seeds disagree"
    assert verdict(found, +1, (0.3, 0.1)) == "agrees"


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
        "no better than guessing",
        "not resampled",
        f"p of {n}",
    ):
        assert words in text


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
