"""The command: what the functions do, for any plan, prompts from anywhere, and a sentence for every mistake."""

from __future__ import annotations

import gzip
import io
import json
import signal
import subprocess
import sys
import unicodedata
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pytest
from conftest import write_tiny_olmo

from lens import Checkpoint, Lens, open_lens
from probes import builtin, probe_checkpoint
from probes.text_files import open_texts
from steering import Plan, Row, Sampling, fit, generate
from steering.__main__ import main
from steering.batch import Batch
from steering.calibrate import TOLERANCE, calibrate
from steering.options import prompts_from
from steering.shown import harmless

PROMPT, OTHER = "The people next door are", "A small garden"
SHORT = ["--max-tokens", 8, "--seed", 2, "--threads", 1, "--device", "cpu"]
SAMPLING = Sampling(max_tokens=8, seed=2)
OURS = Plan(probes="own", heads=3, seed=2)
OURS_IN_WORDS = ["--probes", "own", "--heads", 3]


@pytest.fixture(scope="module")
def lens(tmp_path_factory: pytest.TempPathFactory) -> Lens:
    """A tiny model with probes beside it, and room for the paper's instruction."""
    folder = write_tiny_olmo(tmp_path_factory.mktemp("probed") / "tiny", max_position_embeddings=256)
    lens = open_lens(str(folder), device="cpu", threads=1)
    for name, n in (("own", 120), ("other", 100)):
        rows = ({"text": text.text, "label": "toxic" if text.label else "benign"} for text in builtin().texts[:n])
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        probe_checkpoint(lens, open_texts(str(folder / f"{name}.jsonl")))
    return lens


@pytest.fixture
def run(lens: Lens, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What a command prints; the checkpoint's folder stands behind the verb."""

    def printed(verb: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["steering", verb, str(lens.checkpoint.folder), *map(str, words)])
        main()
        return capsys.readouterr().out

    return printed


def lines(printed: str) -> list[dict]:
    return [json.loads(line) for line in printed.splitlines()]


def test_the_command_writes_what_the_function_writes(lens: Lens, run) -> None:
    doses = [fit(OURS, lens).at(strength) for strength in (-4, 0, 8)]
    rows = [Row(prompt, one, sample) for prompt in (PROMPT, OTHER) for sample in range(2) for one in doses]
    written = generate(lens, rows, SAMPLING)
    words = [PROMPT, OTHER, "--sigmas", -4, 0, 8, "--n", 2, *OURS_IN_WORDS, *SHORT]
    found = lines(run("generate", *words, "--json"))
    assert [line["text"] for line in found] == [one.text for one in written]
    assert [line["receipt"] for line in found] == [json.loads(json.dumps(one.receipt.to_dict())) for one in written]
    assert all(Sampling(**line["sampling"]) == SAMPLING for line in found)
    assert [(line["prompt"], line["sample"], line["strengths"]) for line in found] == [
        (row.prompt, row.sample, {"iti": row.doses[0].strength}) for row in rows
    ]
    shown = run("generate", *words)
    for title in ("— plain —", "— 8 sigmas —", "— plain, sample 1 —", "— -4 sigmas, sample 1 —"):
        assert shown.count(title) == 2
    assert all(harmless(row.prompt + one.text) in shown for row, one in zip(rows, written, strict=True))
    assert shown.splitlines()[-1] == str(written[2].receipt)


def test_rows_are_written_some_at_a_time_to_the_same_texts(run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [PROMPT, OTHER, "--strengths", 0, 4, 8, *OURS_IN_WORDS, *SHORT, "--json"]
    together = run("generate", *words)
    monkeypatch.setattr(sys.modules["steering.__main__"], "ROWS_AT_ONCE", 4)
    assert [line["text"] for line in lines(run("generate", *words))] == [line["text"] for line in lines(together)]


def test_prompting_stands_beside_without_its_instruction(run) -> None:
    shown = run("generate", PROMPT, "--sigmas", 0, 8, "--prompting", *OURS_IN_WORDS, *SHORT)
    titles = ("— plain —", "— 8 sigmas —", "— asked in words —")
    assert [line for line in shown.splitlines() if line.startswith("— ")] == list(titles)
    assert shown.count(PROMPT) == 3
    assert "respectful" not in shown


def test_a_plan_comes_from_a_file_from_options_or_from_both(lens: Lens, run, tmp_path: Path) -> None:
    plan = Plan("ablate", probes="other", kind="probe-weight", where="heads", heads="L0H1 L2H3", gate=0.4, seed=7)
    (tmp_path / "plan.json").write_text(plan.to_json())
    how = [PROMPT, "--sigmas", 1, "--json", *SHORT]
    from_file = lines(run("generate", *how, "--plan", tmp_path / "plan.json"))
    options = ["--method", "ablate", "--probes", "other", "--kind", "probe-weight", "--where", "heads"]
    options += ["--heads", "L0H1", "L2H3", "--gate", 0.4]
    from_options = lines(run("generate", *how, *options))
    changed = lines(run("generate", *how, "--plan", tmp_path / "plan.json", "--heads", "L0H1 L1H0", "--gate", 2))

    def asked(line: dict) -> Plan:
        return Plan.from_json(json.dumps(line["receipt"]["doses"][0]["plan"]))

    assert asked(from_file[0]) == plan
    assert asked(from_options[0]) == replace(plan, seed=2)
    assert asked(changed[0]) == replace(plan, heads="L0H1 L1H0", gate=2.0)
    assert from_file[0]["text"] == from_options[0]["text"] == generate(
        lens, [Row(PROMPT, fit(plan, lens).at(1))], SAMPLING
    )[0].text  # fmt: skip
    layered = lines(run("generate", *how, "--method", "caa", "--probes", "other", "--layers", 2, 0))
    assert asked(layered[0]) == Plan("caa", probes="other", layers=(2, 0), seed=2)


def test_plans_add_up(lens: Lens, run, tmp_path: Path) -> None:
    more = Plan("iti", probes="other", heads="L1H2")
    (tmp_path / "more.json").write_text(more.to_json())
    also = ["--also", "caa@1", f"{tmp_path}/more.json@-3"]
    plain, both = lines(run("generate", PROMPT, "--sigmas", 0, 8, *also, *OURS_IN_WORDS, *SHORT, "--json"))
    doses = fit(OURS, lens).at(8) + fit(Plan("caa", OURS.probes, seed=OURS.seed), lens).at(1) + fit(more, lens).at(-3)
    (expected,) = generate(lens, [Row(PROMPT, doses)], SAMPLING)
    assert both["text"] == expected.text
    assert both["receipt"]["doses"] == json.loads(json.dumps(expected.receipt.to_dict()))["doses"]
    assert list(both["strengths"].values()) == [8, 1, -3], "two plans of one method are told apart"
    assert plain["text"] == generate(lens, [Row(PROMPT)], SAMPLING)[0].text
    assert plain["strengths"] == {"iti": 0}
    shown = run("generate", PROMPT, "--sigmas", 0, 8, *also, *OURS_IN_WORDS, *SHORT)
    assert "— 8 sigmas + " in shown
    twice = ["--also", "caa@1", "caa@2", "--json"]
    (alike,) = lines(run("generate", PROMPT, "--sigmas", 8, *twice, *OURS_IN_WORDS, *SHORT))
    assert list(alike["strengths"].values()) == [8, 3]


def test_every_part_of_a_plan_is_an_option(run, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("generate", "calibrate", "fit", "bake"):
        with pytest.raises(SystemExit, match="0"):
            run(verb, "--help")
        said = capsys.readouterr().out
        options = {f"--{field.name.replace('_', '-')} " for field in fields(Plan)}
        assert {option for option in options if option not in said} == ({"--seed "} if verb == "fit" else set())


PACKED = {
    "lines.txt": f"{PROMPT}\r\n\n  \n{OTHER}\n".encode(),
    "mark.txt": f"\ufeff{PROMPT}\n{OTHER}".encode(),
    "zipped.txt.gz": gzip.compress(f"{PROMPT}\n{OTHER}\n".encode()),
    "rows.jsonl": f'{{"prompt": "{PROMPT}"}}\n\n{{"prompt": {{"text": "{OTHER}", "toxicity": 0.1}}}}\n'.encode(),
    "rows.txt": f'{{"prompt": "{PROMPT}", "id": 3}}\n{{"prompt": "{OTHER}"}}\n'.encode(),
    "rows.jsonl.gz": gzip.compress(f'{{"prompt": "{PROMPT}"}}\n{{"prompt": "{OTHER}"}}'.encode()),
}


@pytest.mark.parametrize("name", PACKED)
def test_prompts_come_from_files_and_from_standard_input(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(PACKED[name])
    assert prompts_from(str(tmp_path / name)) == [PROMPT, OTHER]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PACKED[name])))
    assert prompts_from("-") == [PROMPT, OTHER]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b" \n\n", "a.txt:1 holds no prompt"),
        ("a.txt", b"a\xff\n", "a.txt:1 is no UTF-8"),
        ("a.txt", PACKED["zipped.txt.gz"][:-9], "a.txt:1 cannot be read"),
        ("a.jsonl", b"{\n", r"a.jsonl:1 is not JSON"),
        ("a.txt", b'{"prompt": "a"}\n\n3\n', r"a.txt:3 is no JSON object"),
        ("a.txt", b'{"prompt": {"text": 3}}\n', r"a.txt:1 has no prompt"),
        ("a.jsonl", b"[" * 10_000, r"a.jsonl:1 is not"),
    ],
)
def test_a_damaged_file_of_prompts_is_named_with_its_line(
    name: str, content: bytes, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        prompts_from(str(tmp_path / name))


def test_nats_are_spent_as_calibrated(lens: Lens, run) -> None:
    found = lines(run("generate", PROMPT, "--nats", 0, 0.1, *OURS_IN_WORDS, *SHORT, "--json"))
    bought = calibrate(lens, fit(OURS, lens), 0.1)
    assert [line["strengths"]["iti"] for line in found] == [0, bought.strength]
    assert bought.kl == pytest.approx(0.1, rel=TOLERANCE)
    assert run("calibrate", "--nats", 0.1, "--seed", 2, *OURS_IN_WORDS) == f"{bought}\n"


def test_costs_are_found_one_after_the_other_on_a_text_of_ones_own(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.txt").write_text("She walked to the harbour and counted the boats. " * 80)
    with pytest.raises(SystemExit, match=r"ITI on tiny spends at most .* 999 are out of reach"):
        run("calibrate", "--nats", 0.05, 0.1, 999, "--text", tmp_path / "own.txt", *OURS_IN_WORDS)
    assert [line.split("for ")[1][:4] for line in capsys.readouterr().out.splitlines()] == ["0.05", "0.1 "]


@pytest.mark.parametrize("option", ["--text", "--plan"])
def test_a_text_in_another_encoding_is_named_before_anything_is_opened(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(sys.modules["steering.options"], "open_lens", None)
    (tmp_path / "latin").write_bytes("café".encode("latin-1"))
    with pytest.raises(SystemExit, match=r"/latin is not a text in UTF-8: .*\. Save it as UTF-8\."):
        run("calibrate", option, tmp_path / "latin", *OURS_IN_WORDS)


def test_a_method_is_fitted_and_then_used(lens: Lens, run) -> None:
    how, texts = ["--method", "leace", "--probes", "own", "--layers", 1], lens.checkpoint.folder / "own.jsonl"
    with pytest.raises(SystemExit, match=r"no fit of LEACE.* python -m steering fit .*/tiny --method leace"):
        run("generate", PROMPT, *how)
    assert run("fit", "--texts", texts, *how) == f"{Plan('leace', 'own', layers=(1,))}: 1 edit fitted to tiny\n"
    (line,) = lines(run("generate", PROMPT, "--sigmas", 1, *how, *SHORT, "--json"))
    assert [shift["edit"] for shift in line["receipt"]["shifts"]] == ["L1"]
    with pytest.raises(SystemExit, match="not those that the probes 'other'"):
        run("fit", "--texts", texts, "--method", "leace", "--probes", "other")


def test_a_strength_is_baked(run, tmp_path: Path) -> None:
    said = run("bake", "--sigmas", 8, "--out", tmp_path / "baked", *OURS_IN_WORDS)
    assert said == f"{replace(OURS, positions='all', seed=0)} at 8: {tmp_path / 'baked'}\n"
    assert "attention_bias" in (tmp_path / "baked" / "config.json").read_text()
    assert Checkpoint.open(tmp_path / "baked").name == "baked"
    with pytest.raises(SystemExit, match=r"either way: --sigmas 8, or --nats 0\.1"):
        run("bake", "--out", tmp_path / "again")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--method", "leace"], "LEACE changes the residual stream after a layer, where OLMo has neither bias nor"),
        (["--method", "act"], r"Linear-AcT changes the residual stream .* another with --where heads"),
        (["--method", "caa"], "CAA changes the residual stream"),
        (["--gate", 0.5], "A gate looks at every token"),
        (["--method", "prompting"], "Prompting puts words in front of a prompt, and weights hold no words"),
        ([], "is there already"),
    ],
)
def test_what_cannot_be_baked_is_refused_before_anything_is_opened(
    run, words: list[object], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["steering.__main__"], "open_lens", None)
    out = tmp_path / "baked" if words else tmp_path
    with pytest.raises(SystemExit, match=sentence):
        run("bake", "--sigmas", 1, "--out", out, "--probes", "own", *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([PROMPT], "has no probes 'toxigen'"),
        ([PROMPT, *OURS_IN_WORDS, "--sigmas", "nan"], "standard deviations"),
        ([PROMPT, "--sigmas"], "at least one strength"),
        ([PROMPT, "--sigmas", 8, "--nats", 0.1], "Give one of the two"),
        ([PROMPT, *OURS_IN_WORDS, "--nats", -1], "nats is a KL per token above 0"),
        ([PROMPT, "--top-p", 9], "top_p is a share"),
        ([PROMPT, *OURS_IN_WORDS, "--max-tokens", 256], "Prompt 1 of 1: .* at most 255"),
        ([PROMPT, "", *OURS_IN_WORDS], "Prompt 2 of 2: The text is empty"),
        ([PROMPT, "T" * 300, "--sigmas", 0], "Prompt 2 of 2: The text has 300 tokens"),
        ([PROMPT, "--probes", "own", "--heads", 13], "has 12 heads"),
        ([PROMPT, "--heads", "L9X"], "L9X"),
        ([PROMPT, "--method", "x"], "method is one of 'iti', "),
        ([PROMPT, "--method", "prompting", "--gate", 0.5], "gate has no meaning for Prompting"),
        ([PROMPT, "--method", "prompting", "--nats", 0.5], "on or off"),
        ([PROMPT, "--method", "prefix"], "was not trained with prefixes"),
        ([PROMPT, "--n", 0, "--sigmas", 0], "--n is a number of texts"),
        ([PROMPT, "--sigmas", 8, "--also", "caa"], r"plans with their strengths, such as caa@1 .* got 'caa'"),
        ([PROMPT, "--sigmas", 8, "--also", "caa@much"], "got 'caa@much'"),
        ([PROMPT, "--sigmas", 8, "--also", "act@3"], "A strength of .* from 0 to 1"),
        ([PROMPT, "--sigmas", 8, "--also", "caa@nan"], "A strength of .* got nan"),
        ([PROMPT, "--sigmas", 8, "--also", "x@1"], "method is one of 'iti', "),
        ([PROMPT, "--sigmas", 8, "--also", "/nowhere/plan.json@1"], r"/nowhere/plan\.json: No such file"),
        ([PROMPT, "--plan", "/nowhere/plan.json"], r"/nowhere/plan\.json: No such file"),
        ([PROMPT, "--prompts", "/nowhere"], "/nowhere: No such file"),
        (["--sigmas", 0], "There is no prompt"),
    ],
)
def test_the_command_answers_mistakes_with_a_sentence(run, words: list[object], sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        run("generate", *words)


def test_a_negative_seed_is_one_too(run) -> None:
    how = [PROMPT, "--sigmas", 8, "--kind", "random", *OURS_IN_WORDS, "--max-tokens", 4]
    assert run("generate", *how, "--seed", -1) != run("generate", *how, "--seed", 1)


def test_a_damaged_plan_is_named_with_its_file(run, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"heads": 0}')
    with pytest.raises(SystemExit, match=r"plan\.json: heads is a number from 1 up"):
        run("generate", PROMPT, "--plan", tmp_path / "plan.json")


def test_a_plain_text_needs_no_probes(run) -> None:
    assert run("generate", PROMPT, "--sigmas", 0, *SHORT).startswith(f"— plain —\n{PROMPT}")


def test_an_interrupted_command_keeps_what_was_written(
    run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the fifth token of the second batch."""
    words = [PROMPT, OTHER, "--sigmas", 0, *SHORT, "--json"]
    whole = lines(run("generate", *words))
    steps, right = [], Batch.advance

    def interrupted(batch: Batch) -> None:
        steps.append(batch)
        if len(steps) == 8 + 4 + 1:
            raise KeyboardInterrupt
        right(batch)

    def kept(*words: object) -> list[dict]:
        steps.clear()
        with pytest.raises(SystemExit, match="130"):
            run("generate", *words)
        return lines(capsys.readouterr().out)

    monkeypatch.setattr(Batch, "advance", interrupted)
    monkeypatch.setattr(sys.modules["steering.__main__"], "ROWS_AT_ONCE", 1)
    first, second = kept(*words)
    assert first["text"] == whole[0]["text"]
    assert whole[1]["text"].startswith(second["text"])
    assert (second["n_tokens"], second["done"]) == (4, False)
    assert len(kept(*words[:-1], "--n", 3, "--json")) == 2  # and the others are not begun


def test_a_real_ctrl_c_ends_with_its_own_status_and_keeps_every_text(lens: Lens) -> None:
    """The first batch has been printed by the time that the signal comes, and the second one is on its way."""
    words = [str(lens.checkpoint.folder), PROMPT, "--sigmas", "0", "--n", "3200", "--max-tokens", "100", "--json"]
    command = [sys.executable, "-m", "steering", "generate", *words, "--threads", "1", "--device", "cpu"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in a shell's background ignore Ctrl-C
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        began = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        written, said = lines(began + process.stdout.read()), process.stderr.read()
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("Stopped. The texts above are whole")
    assert "Traceback" not in said
    assert 32 <= len(written) < 3200
    assert all(line["done"] for line in written[:32])


def test_what_grows_in_a_terminal_ends_as_what_goes_into_a_pipe(run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [PROMPT, "--sigmas", 0, 8, *OURS_IN_WORDS, *SHORT]
    piped = run("generate", *words)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    grown = run("generate", *words)
    assert grown.endswith(piped)
    assert grown.count("— 8 sigmas —") > piped.count("— 8 sigmas —")  # it was there before, growing


def test_a_terminal_is_not_given_orders_by_a_model() -> None:
    assert harmless("a\x1b[2Jb\tc\nd\r") == "a\ufffd[2Jb c\nd\ufffd"
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    orders = {one for one in every if unicodedata.category(one) in ("Cc", "Cs")} - {"\n"}
    reorder = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    changed = {one for one, shown in zip(every, harmless(every), strict=True) if one != shown}
    assert changed == orders | reorder  # and no space, joiner or direction of another script
