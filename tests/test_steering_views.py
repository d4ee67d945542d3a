"""What the steering tab asks of the package, without the page around it."""

from __future__ import annotations

import html
import json
import shlex
import sys
from pathlib import Path
from threading import Event

import pytest

import steering.__main__
from lens.bench import Bench
from probes import builtin, probe_checkpoint
from steering import Plan, Row, Sampling, cost, fit, generate
from steering.asked import asked, command
from steering.calibrate import TOLERANCE, Calibration
from steering.cost import plain_text
from steering.methods.table import METHODS
from steering.scale import reaching
from steering.views import Stopped, grow, methods_for, spend
from tests.conftest import write_tiny_olmo

PROMPT = "The people next door are"
GIVEN = {"a": "tiny-a", "b": "", "prompt": PROMPT, "method": "iti", "strength": 8, "kind": "mass-mean",
         "probes": "builtin", "heads": "", "layers": "", "where": None, "gate": 0, "temperature": 1, "top_p": 0.9,
         "length": 12, "seed": 0}  # fmt: skip


def quiet(done: float, total: float) -> None:
    """Nobody looks."""


def test_the_receipt_in_words_is_the_receipt_of_the_run(bench: Bench) -> None:
    run = asked(bench, **{**GIVEN, "heads": "L2H3, l0h1", "gate": 0.4, "strength": 16})
    *_, last = grow(bench, run, Event(), quiet)
    said = html.unescape(last.receipt)
    with bench.pool.lens(run.checkpoints[0]) as lens:
        steered = fit(Plan(probes="builtin", heads="L2H3 L0H1", gate=0.4), lens).at(16)
        _, written = generate(lens, [Row(PROMPT), Row(PROMPT, steered)], Sampling(1, 0.9, 12, 0))
    receipt = written.receipt
    assert receipt.gated is not None
    assert 0 < receipt.gated < 1
    assert "ITI at 16 along mass-mean directions changed 2 heads in 2 layers (L0H1 L2H3)" in said
    assert receipt.n_positions == len(written.tokens) == 12  # 1 + 11: nothing reads the last
    assert "at 12 positions: the prompt's last token and each new one that was read to write the next." in said
    assert f"open for {receipt.gated:.0%}" in said
    assert "asks for a mean shift of {:.4g} in the residual stream; measured {:.4g}".format(*receipt.mean_shift) in said
    assert f"Seed 0, float32 on cpu, {receipt.model['threads']} thread" in said
    assert f"weights {receipt.model['fingerprint'][:12]}, probes builtin" in said


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A checkpoint trained with prefixes and one without, both with room for the words of the prompting baseline."""
    folder = tmp_path_factory.mktemp("taught")
    for name, control in (("with", "toxicity: 0. "), ("without", None)):
        write_tiny_olmo(folder / name, max_position_embeddings=256)
        card = {"name": name, "mix": {"prefixes": {"control": control}}}
        (folder / name / "checkpoint.json").write_text(json.dumps(card))
    return Bench(folder, device="cpu", threads=1)


def test_a_prefix_is_offered_where_every_chosen_checkpoint_was_trained_with_one(taught: Bench) -> None:
    assert "prefix" in methods_for(taught, ["with", ""])
    assert "prefix" not in methods_for(taught, ["with", "without"])
    assert "prefix" not in methods_for(taught, [None, ""])


@pytest.mark.parametrize(("method", "words"), [("prefix", "toxicity: 0."), ("prompting", "Ensure all outputs are")])
def test_words_in_front_are_in_the_receipt_and_not_in_the_text(
    taught: Bench,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    words: str,
) -> None:
    monkeypatch.chdir(taught.folder.parent)  # the page says no more of the folder than its name
    run = asked(taught, **{**GIVEN, "a": "with", "method": method, "strength": 1, "heads": ""})
    *_, last = grow(taught, run, Event(), quiet)
    [pair] = last.pairs
    assert f"leaves the model as it is. It read “{words}" in last.receipt
    assert pair.plain.text != pair.steered.text
    assert words not in last.to_html(str)
    sys.argv, argv = ["python -m steering", *shlex.split(command(run, taught))[3:], "--unmasked"], sys.argv
    try:
        steering.__main__.main()
    finally:
        sys.argv = argv
    at_the_terminal = capsys.readouterr().out
    assert all(clean(PROMPT + text) in clean(at_the_terminal) for text in (pair.plain.text, pair.steered.text))


def clean(text: str) -> str:
    """Without control characters, which the terminal does not get to see."""
    return "".join(sign for sign in text if sign.isprintable() and sign != "\ufffd")


def test_nats_become_the_strength_that_costs_them(bench: Bench) -> None:
    run, tries = asked(bench, **GIVEN), []
    strength, words = spend(bench, run, 0.05, Event(), quiet, lambda *tried: tries.append(tried))
    assert tries
    with bench.pool.lens(run.checkpoints[0]) as lens:
        [found] = cost(lens, [fit(run.plan, lens).at(strength)], plain_text())
    assert found.kl.value == pytest.approx(0.05, rel=0.05)  # the strength was found on half of this text
    assert f"ITI at {strength:g} costs tiny-a {dict(tries)[strength]:.3g} nats" in words
    assert "held out" in words


def test_the_strength_of_a_few_nats_is_not_rounded_away(bench: Bench) -> None:
    """Three decimals made a third less of this one, and nothing of a smaller one."""
    run = asked(bench, **{**GIVEN, "method": "ablate", "strength": 1, "heads": ""})
    strength, words = spend(bench, run, 1e-6, Event(), quiet, quiet)
    with bench.pool.lens(run.checkpoints[0]) as lens:
        kl = Calibration(lens, fit(run.plan, lens)).kl(strength)
    assert kl == pytest.approx(1e-6, rel=TOLERANCE)
    assert f"{kl:.3g} nats" in words


@pytest.mark.parametrize(
    ("nats", "sentence"),
    [
        (float("nan"), "nats per token should be a number from 0 to 10"),
        ("much", "nats per token should be a number from 0 to 10"),
        (0, "above 0"),
        (9.9, "spends at most .* Ask for less"),
    ],
)
def test_nats_that_cannot_be_spent_are_refused(bench: Bench, nats: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        spend(bench, asked(bench, **GIVEN), nats, Event(), quiet, quiet)


def test_stop_ends_the_search_for_a_strength(bench: Bench) -> None:
    sign, tries = Event(), []

    def press(strength: float, kl: float) -> None:
        tries.append(strength)
        sign.set()

    with pytest.raises(Stopped):
        spend(bench, asked(bench, **GIVEN), 0.05, sign, quiet, press)
    assert len(tries) == 1


def test_the_slider_reaches_every_strength_that_nats_can_buy() -> None:
    assert reaching(METHODS["caa"].slider, 8.213).most == 9
    assert reaching(METHODS["iti"].slider, 5.237).most == METHODS["iti"].slider.most
    for strength in (5.237, 13.24, 0.01234, 4.567e-5, 1.0):
        n_steps = strength / reaching(METHODS["iti"].slider, strength).step
        assert n_steps == pytest.approx(round(n_steps), abs=1e-6)
        assert 1000 <= n_steps < 10_000  # four digits


def test_fits_of_a_visitor_s_own_heads_and_layers_leave_no_files(tmp_path: Path) -> None:
    bench = Bench(tmp_path, device="cpu", threads=1)
    write_tiny_olmo(tmp_path / "tiny")
    with bench.pool.lens(bench.checkpoint("tiny")) as lens:
        probe_checkpoint(lens, builtin())

    def written(**given: object) -> int:
        act = {"a": "tiny", "method": "mean-act", "strength": 1, "length": 1, **given}
        list(grow(bench, asked(bench, **{**GIVEN, **act}), Event(), quiet))
        return len(list((tmp_path / "tiny" / "steering").glob("*.json")))

    assert [written(layers="1"), written(where="heads", heads="L0H1"), written(), written()] == [0, 0, 1, 1]
