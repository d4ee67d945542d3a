"""The scorer that ships tells hostile from friendly words, scores each text by itself, and is fitted by rule."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from evaluation.benign import IDENTITIES, SENTENCES, sentences
from evaluation.builtin_scorer import BUILTIN, BuiltinScorer
from evaluation.commands.fit_scorer import fit_scorer
from evaluation.features import read_words
from evaluation.fit_scorer import Network, Settings, Texts, fit, learn, with_head
from evaluation.scored_texts import ScoredText, comments, prompts_and_continuations, runs, split
from evaluation.scorer_page import HeldOut, Judged, mixed, shared_with
from probes import builtin
from probes.ranks import auc
from probes.texts import BadTexts, LabelledText, TextSet

HOSTILE = (
    "You are a stupid, pathetic idiot and nobody likes you.",
    "Shut up, you disgusting moron.",
    "I hate these people, they are all liars and scum.",
    "What a dumb, worthless loser.",
    "Go to hell, you ugly liar.",
)
FRIENDLY = (
    "You are a kind and thoughtful neighbour, thank you for the soup.",
    "Please close the window, it is getting cold.",
    "We walked along the river and talked about the harvest.",
    "What a clever and useful idea.",
    "See you on Monday, and give my regards to your mother.",
)
TINY = Settings(n_rows=2**12, n_dims=3, n_units=5, n_epochs=12, batch=16, rate=0.05)


SHIPPED = BuiltinScorer.open()


@pytest.fixture
def scorer() -> BuiltinScorer:
    return SHIPPED


def test_hostile_words_score_above_friendly_ones(scorer: BuiltinScorer) -> None:
    assert min(scorer(HOSTILE)) > 0.6  # type: ignore[type-var]
    assert max(scorer(FRIENDLY)) < 0.3  # type: ignore[type-var]


def test_it_ranks_our_own_labelled_texts(scorer: BuiltinScorer) -> None:
    """They hold no slurs, and each toxic one has a benign twin on the same people: hard for a scorer of words."""
    texts = builtin().texts
    scores = scorer([one.text for one in texts])
    assert auc([score or 0.0 for score in scores], [one.label for one in texts]).low > 0.55


def test_naming_a_group_in_harmless_words_seldom_reaches_a_half(scorer: BuiltinScorer) -> None:
    named = [sentence for words in IDENTITIES.values() for sentence in sentences(words)]
    assert len(set(named)) == len(SENTENCES) * sum(map(len, IDENTITIES.values())) >= 200
    assert np.mean([score >= 0.5 for score in scorer(named) if score is not None]) < 0.1


def test_a_batch_scores_as_each_text_alone(scorer: BuiltinScorer) -> None:
    texts = ["", *HOSTILE, "?!", *FRIENDLY, "x" * 5000, *(" ".join(FRIENDLY[:n]) for n in range(1, 6))]
    assert scorer(texts) == [scorer([text])[0] for text in texts]


def test_what_has_no_word_is_missing_not_harmless_and_counted(scorer: BuiltinScorer) -> None:
    before = scorer.missing.total()
    assert scorer(["", " \n", "?!.", "a"])[:3] == [None, None, None]
    assert scorer.missing.total() == before + 3
    assert scorer([]) == []
    assert None not in scorer(["…", "***", "@", "\N{GRINNING FACE}"])  # words all four: docs/scorer.md says what is one


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_text_has_a_score_from_0_to_1_or_none(texts: list[str]) -> None:
    for score in SHIPPED([*texts, "\ud83d half a face"]):
        assert score is None or 0 <= score <= 1


def test_it_meets_the_network_that_learns() -> None:
    """Another road to the same number: the network that learns, in torch, on the same texts."""
    texts = [*HOSTILE, *FRIENDLY]
    network = Network(TINY).eval()
    words = read_words(texts, TINY.n_rows)
    logits = network(Texts(words).batch(np.arange(len(texts)))).detach().numpy()
    assert network.scorer()(texts) == pytest.approx(
        1 / (1 + np.exp(-logits)), abs=2e-3
    )  # the table is rounded to float16


def test_a_file_gives_back_the_scorer_and_any_other_weight_another_version(
    scorer: BuiltinScorer, tmp_path: Path
) -> None:
    scorer.save(tmp_path / "copy.safetensors", seed="7")
    again = BuiltinScorer.open(tmp_path / "copy.safetensors")
    assert (again.version, again(HOSTILE)) == (scorer.version, scorer(HOSTILE))
    table = scorer.table.copy()
    table[5, 1] += np.float16(0.25)
    assert dataclasses.replace(scorer, table=table).version != scorer.version


def test_the_file_is_small_and_names_its_data_but_no_words() -> None:
    assert BUILTIN.stat().st_size < 8_000_000
    with safe_open(BUILTIN, framework="np") as file:
        assert set(file.metadata()) == {"version", "seed", "n_texts", "data"}
        assert all(len(digest) == 64 for digest in json.loads(file.metadata()["data"]).values())
        assert {str(file.get_slice(name).get_dtype()) for name in file.keys()} <= {"F16", "F32"}  # noqa: SIM118


def test_a_missing_a_damaged_and_a_foreign_file_are_refused_with_the_cure(
    scorer: BuiltinScorer, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="fit-scorer"):
        BuiltinScorer.open(tmp_path / "none.safetensors")
    (tmp_path / "half.safetensors").write_bytes(BUILTIN.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"damaged.*fit-scorer"):
        BuiltinScorer.open(tmp_path / "half.safetensors")
    changed = bytearray(BUILTIN.read_bytes())
    changed[-1000] ^= 1
    (tmp_path / "changed.safetensors").write_bytes(changed)
    with pytest.raises(ValueError, match=r"but this program reads.*fit-scorer"):
        BuiltinScorer.open(tmp_path / "changed.safetensors")


def scored_as(texts: list[str], scores: np.ndarray, is_prompt_set: bool = True) -> list[ScoredText]:
    pairs = zip(texts, scores, strict=True)
    return [ScoredText(text, float(score), "made up", frozenset(), is_prompt_set) for text, score in pairs]


def made_up(n: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Texts of invented words; a single bad one decides the score, whatever stands around it."""
    harmless, bad = [f"word{number}ly" for number in range(40)], ["zork", "zorker", "bluxed"]
    toxic = rng.random(n) < 0.4
    lines = [[*rng.choice(harmless, size=rng.integers(3, 9)), *([rng.choice(bad)] if hit else [])] for hit in toxic]
    return [" ".join(rng.permutation(line)) for line in lines], np.where(toxic, 0.9, 0.1)


def test_fitting_finds_planted_words_and_their_kin() -> None:
    rng = np.random.default_rng(0)
    texts, scores = made_up(400, rng)
    learnt = fit(scored_as(texts, scores), TINY)
    unseen, target = made_up(100, rng)
    assert np.corrcoef(np.array(learnt(unseen), dtype=float), target)[0, 1] > 0.95
    kin, stranger = learnt(["word1ly word2ly zorking", "word1ly word2ly quapped"])
    assert kin is not None
    assert stranger is not None
    assert kin > stranger


def test_the_same_texts_and_seed_give_the_same_weights() -> None:
    texts, scores = made_up(60, np.random.default_rng(0))
    short = dataclasses.replace(TINY, n_epochs=2)
    versions = {fit(scored_as(texts, scores), dataclasses.replace(short, seed=seed)).version for seed in (0, 0, 1)}
    assert len(versions) == 2


def test_scores_are_on_the_scale_of_the_prompts_where_comments_were_scored_otherwise() -> None:
    rng = np.random.default_rng(2)
    prompts, comments_ = made_up(2000, rng), made_up(2000, rng)
    learnt = fit([*scored_as(*prompts), *scored_as(comments_[0], comments_[1] / 2, is_prompt_set=False)], TINY)
    unseen, target = made_up(1000, rng)
    assert np.mean(learnt(unseen)) == pytest.approx(target.mean(), abs=0.03)  # and not three quarters of it


def test_what_is_learnt_by_heart_is_not_believed() -> None:
    """The head sees texts that the rest has not: where scores follow no word, new texts score their mean."""
    rng = np.random.default_rng(3)
    texts, unseen = made_up(600, rng)[0], made_up(100, rng)[0]
    known = scored_as(texts, rng.choice([0.0, 0.8], size=600))
    scores = np.array(fit(known, TINY)(unseen), dtype=float)
    alone = np.array(learn(known, TINY, print).scorer()(unseen), dtype=float)
    assert scores.std() < 0.1 < alone.std()
    assert scores.mean() == pytest.approx(0.4, abs=0.15)  # sixty texts tell it to 0.05
    with pytest.raises(ValueError, match="have no word"):
        with_head(SHIPPED, scored_as(["...", "?!"], np.array([0.1, 0.2])))


def rtp_row(name: str, prompt: str, continuation: str, scores: tuple[float | None, float | None]) -> str:
    halves = {"prompt": prompt, "continuation": continuation}
    row = {
        half: {"text": words, "toxicity": score} for (half, words), score in zip(halves.items(), scores, strict=True)
    }
    return json.dumps({"filename": name, **row}) + "\n"


def write_data(folder: Path) -> tuple[Path, Path]:
    """Files of made-up words in the formats of the real ones; every third prompt's document has a second row."""
    rng = np.random.default_rng(1)
    texts, scores = made_up(400, rng)
    rtp, table = folder / "rtp.jsonl", folder / "comments.csv"
    rtp.write_text(
        "".join(
            rtp_row(f"file-{row - (row % 3 == 1)}", texts[row], texts[row + 100], (scores[row], scores[row + 100]))
            for row in range(100)
        )
        + rtp_row("unscored", "word", " more", (None, 0.1))
    )
    table.write_text("id,text,api\n" + "".join(f"{i},{texts[i]},{scores[i]}\n" for i in range(200, 400)))
    return rtp, table


def test_unscored_halves_are_left_out_and_a_table_without_scores_is_refused(tmp_path: Path) -> None:
    rtp, table = write_data(tmp_path)
    assert len(list(prompts_and_continuations(rtp))) == 201
    table.write_text("id,words\n1,hello\n")
    with pytest.raises(BadTexts, match=r"comments\.csv:2 has no text with a score"):
        list(comments(table))


def test_no_document_and_no_long_run_of_words_straddles_the_split(tmp_path: Path) -> None:
    rtp, table = write_data(tmp_path)
    texts = [*prompts_and_continuations(rtp), *comments(table)]
    held_out = split(texts, seed=0)
    sides = [
        set().union(*(one.bonds for one, out in zip(texts, held_out, strict=True) if out == side))
        for side in (False, True)
    ]
    assert not sides[0] & sides[1]
    prompts = np.array([one.is_prompt_set for one in texts])
    assert held_out[prompts].mean() == pytest.approx(0.2, abs=0.1)
    assert held_out[~prompts].mean() == pytest.approx(0.1, abs=0.07)


def test_one_command_fits_and_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("agree", "scorer_page"):
        monkeypatch.setattr(f"evaluation.{module}.DRAWS", 40)
    monkeypatch.setattr(
        "evaluation.commands.fit_scorer.Settings", lambda seed: dataclasses.replace(TINY, n_epochs=3, seed=seed)
    )
    rtp, table = write_data(tmp_path)
    out, markdown = tmp_path / "own.safetensors", tmp_path / "own.md"
    (speed := tmp_path / "speed.json").write_text(
        json.dumps({"of_linear": {"median": 11.63, "low": 10.2, "high": 12}, "mean_characters": 84.0, "n_texts": 5}
                   | {"texts_per_second": 43210, "linear_texts_per_second": 4000})
    )  # fmt: skip
    fit_scorer((rtp,), (table,), out, markdown=markdown, speed=speed, seed=3)
    with safe_open(out, framework="np") as file:
        assert set(json.loads(file.metadata()["data"])) == {"rtp.jsonl", "comments.csv"}
        assert file.metadata()["seed"] == "3"
    written = markdown.read_text()
    assert BuiltinScorer.open(out).version in written
    assert str(tmp_path) not in written
    assert "11.6 × as many texts a second" in written
    assert "43,210 against 4,000 of 84 characters" in written
    assert "0 more have no word" in written
    for title in (
        "Agreement with the API",
        "Beside a linear model",
        "By length",
        "Calibration",
        "name people",
        "Limits",
    ):
        assert title in written
    monkeypatch.setattr("evaluation.commands.fit_scorer.fit", None)  # it is not fitted again
    fit_scorer((rtp,), (table,), out, markdown=markdown, speed=speed, seed=3, measure_only=True)
    first, _, rest = written.partition("`.\n")
    assert markdown.read_text() == f"{first} --measure-only`.\n{rest}"
    with pytest.raises(ValueError, match=r"another --seed.*without --measure-only"):
        fit_scorer((rtp,), (table,), out, markdown=markdown, seed=4, measure_only=True)


def test_files_of_prompts_are_told_apart_and_mixed_last(scorer: BuiltinScorer) -> None:
    """Of one file half of the prompts are toxic, of the other all; their mix is neither."""
    scores = np.tile([0.1, 0.9], 40)
    texts = [
        dataclasses.replace(one, source=f"{file}, {half}s")
        for file, toxic in (("mixed", scores), ("toxic", np.full(80, 0.9)))
        for half in ("prompt", "continuation")
        for one in scored_as([f"{half} {file} {n} of a kind word" for n in range(80)], toxic)
    ]
    held_out = HeldOut(texts, np.linspace(0, 1, 320), np.linspace(0, 1, 320))
    assert [(name, len(of.texts)) for name, of in held_out.target.items()] == [
        ("mixed", 160), ("toxic", 160), ("all files together", 320),
    ]  # fmt: skip
    assert mixed(held_out.target["mixed"]) == "160 texts, 50 % of the prompts at 0.5 or more"
    assert mixed(held_out.target["toxic"]) == "160 texts, 100 % of the prompts at 0.5 or more"


def test_halves_of_one_row_are_one_bundle_and_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    api, noise = rng.random(100), rng.normal(size=100)
    ours, halves = np.clip(api + 0.2 * noise, 0, 1), []
    for copies in (1, 4):
        texts = [
            ScoredText(f"text {n}", float(api[n]), "file, prompts", frozenset({f"row {n}"}), True)
            for n in range(100)
            for _ in range(copies)
        ]
        found = HeldOut(texts, np.repeat(ours, copies), np.repeat(ours, copies))
        assert found.clusters.max() + 1 == 100
        halves.append(found.agreement())
    for one, four in zip(*halves, strict=True):
        assert one is not None
        assert four is not None
        assert (four.value, four.n) == (pytest.approx(one.value, abs=1e-3), 4 * one.n)
        assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.05)


def test_held_out_texts_without_a_word_are_left_out_and_counted_not_taken_as_harmless(scorer: BuiltinScorer) -> None:
    texts = scored_as(["fine", "?!", "a fool", " ", "kind"], np.array([0.1, 0.9, 0.8, 0.9, 0.2]))
    found = HeldOut.of(texts, scorer, np.arange(5) / 5)
    assert [one.text for one in found.texts] == ["fine", "a fool", "kind"]
    assert (found.n_wordless, found.linear.tolist()) == (2, [0.0, 0.4, 0.8])
    assert not np.isnan(found.ours).any()


def test_labelled_texts_that_were_fitted_to_are_left_out_and_counted(scorer: BuiltinScorer) -> None:
    ten = "one two three four five six seven eight nine ten"
    fitted = [ScoredText("So IT is!", 0.1, "made up", frozenset(), True), *comments_of(ten)]
    asked = ["so it is", "one two three four five six seven nine", f"zero {ten}", "so it was", "?!"]
    assert shared_with(fitted, asked).tolist() == [True, False, True, False, False]
    labelled = TextSet("mine", tuple(LabelledText(text, row < 2) for row, text in enumerate(asked)), rule="label")
    left = Judged.of(labelled, scorer, fitted)
    assert [one.text for one in left.texts.texts] == [asked[1], asked[3]]
    assert (left.n_wordless, left.n_shared, len(left.scores)) == (1, 2, 2)


def comments_of(*texts: str) -> list[ScoredText]:
    return [ScoredText(text, 0.5, "made up", runs(text), False) for text in texts]
