"""What a person is told of a prompt, of a number format and of a text that was cut off."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_generate import PROMPT, row

from evaluation.commands.sweep import told_cut
from evaluation.results import Results
from lens import Checkpoint, Lens, open_lens
from probes import ProbeSet, TextSet, builtin, probe_checkpoint
from probes.__main__ import show
from steering import Row, Sampling, generate, stream
from steering.__main__ import main
from steering.notes import ending_note, prompt_notes, rounding_note
from steering.page import Pair, Picture, Written, receipts

BLANK = "The prompt ends in a blank."


@pytest.mark.parametrize("prompt", ["The people", "The people.\n", "a\n\n", " The people", "b  c", "“So”", "   "])
def test_of_an_ordinary_prompt_there_is_nothing_to_say(lens: Lens, prompt: str) -> None:
    assert prompt_notes(lens, prompt) == ()


@pytest.mark.parametrize("prompt", ["The people ", "The people  ", "The people\t", "The people\u00a0", "a\n "])
def test_a_trailing_blank_is_noted(lens: Lens, prompt: str) -> None:
    (note,) = prompt_notes(lens, prompt)
    assert note.startswith(BLANK)


def test_a_special_token_that_is_written_out_is_read_as_that_token(lens: Lens) -> None:
    (end,), (pad,) = lens.end_tokens, lens.encode("<|padding|>")
    assert lens.encode("a<|endoftext|>b") == [*lens.encode("a"), end, *lens.encode("b")]
    (note,) = prompt_notes(lens, "a<|endoftext|>b")
    assert note == "<|endoftext|> in the prompt is read as one token, which ends a text, not as the 13 characters " \
        "that it is written with."  # fmt: skip
    assert pad not in lens.end_tokens
    notes = prompt_notes(lens, "<|padding|> <|endoftext|> ")
    assert len(notes) == 3
    assert any(note.startswith("<|padding|> in the prompt is read as one token, not as the 11") for note in notes)


def test_a_texts_end_has_a_reason(lens: Lens) -> None:
    def ending(prompt: str, max_tokens: int, **how: object) -> str | None:
        (text,) = generate(lens, [Row(prompt)], Sampling(temperature=0, max_tokens=max_tokens, **how))
        return text.ended

    long = "a" * 60
    assert len(lens.encode(long)) > lens.n_context - 40
    assert ending("The people", 5) == "length"
    assert ending(long, 40) == "context"
    (row,) = list(stream(lens, [Row(long)], Sampling(temperature=0, max_tokens=40)))[-1].ended
    assert row == "context"
    whole = lens.n_context - len(lens.encode(long))
    assert ending(long, whole) == "length", "as many as asked were written"
    assert ending_note("context", 2048) == "stopped at the model's limit of 2,048 tokens"
    assert ending_note("length", 2048) == ending_note("end token", 2048) == ending_note(None, 2048) == ""


def test_an_end_token_is_told_from_a_limit(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = generate(lens, [Row("The people")], Sampling(temperature=0, max_tokens=1))
    monkeypatch.setattr(lens, "end_tokens", frozenset(first.tokens))
    (ended,) = generate(lens, [Row("The people")], Sampling(temperature=0, max_tokens=9))
    assert (ended.ended, ended.tokens) == ("end token", ())


def test_the_command_says_it_on_standard_error_and_in_json(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["generate", str(tiny_folder), "The people ", "a" * 60, "--sigmas", "0", "--max-tokens", "40"]
    monkeypatch.setattr(sys, "argv", ["steering", *words, "--device", "cpu", "--temperature", "0"])
    main()
    said = capsys.readouterr()
    assert said.err.startswith(f"Note: 1 of 2 prompts. {BLANK}")
    assert "(stopped at the model's limit of 64 tokens)\n" in said.out
    sys.argv.append("--json")
    main()
    said = capsys.readouterr()
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [line["ended"] for line in found] == ["length", "context"]
    assert [len(line["receipt"]["notes"]) for line in found] == [1, 0]


@pytest.mark.parametrize(("dtype", "digits"), [("float32", 0), ("bfloat16", 2), ("float16", 3)])
def test_a_receipt_says_how_far_rounding_may_carry(tiny_checkpoint: Checkpoint, dtype: str, digits: int) -> None:
    lens = open_lens(tiny_checkpoint, device="cpu", dtype=dtype, threads=1)
    plain, steered = generate(lens, [Row(PROMPT), row(lens, PROMPT, 8)], Sampling(max_tokens=2))
    shifts = steered.receipt.shifts
    assert all(abs(shift.measured - shift.requested) <= shift.tolerance for shift in shifts)
    tolerance = max(shift.tolerance for shift in shifts)
    said = rounding_note(dtype, tolerance)
    assert said == "" or said == (
        f"A {dtype} number has about {digits} digits, so what was asked and what was measured may differ by up to "
        f"{tolerance:.2g} here."
    )
    assert bool(said) == bool(digits)
    assert tolerance < (1e-3 if dtype == "float32" else 5)
    assert plain.receipt.warnings == ()
    for shown in (str(steered.receipt), receipts([steered.receipt], [""])):
        assert said in shown
        assert ("may differ by up to" in shown) == bool(digits)


def test_the_page_shows_the_notes_of_a_prompt_and_a_limit(lens: Lens) -> None:
    (text,) = generate(lens, [row(lens, "The people ", 8)], Sampling(max_tokens=2))
    assert BLANK in receipts([text.receipt], [""])
    assert BLANK not in str(text.receipt), "the command has said it before"
    cut = Pair("a", "", Written("x", 1, True), Written("y", 2, True, cut=ending_note("context", 512)))
    shown = Picture("", (cut,), "").to_html(str)
    assert shown.count("stopped at the model&#x27;s limit of 512 tokens") == 1


def test_texts_that_a_probe_reads_only_the_end_of_are_counted(
    lens: Lens, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [*builtin().texts[:60], *(replace(one, text=one.text * 30) for one in builtin().texts[60:63])]
    folder = tmp_path / "tiny"
    shutil.copytree(lens.checkpoint.folder, folder)
    copy = open_lens(str(folder), device="cpu", threads=1)
    probe_checkpoint(copy, TextSet("long", tuple(texts)))
    n_cut = sum(len(row) > lens.n_context for row in lens.encode_all([one.text for one in texts]))
    assert ProbeSet.load(copy.checkpoint, "long").n_cut == n_cut >= 3
    show((str(folder),), probes="long")
    assert f"{n_cut} texts are longer than the model's context: only their ends were read\n" in capsys.readouterr().out


def test_words_that_a_sweep_leaves_out_are_said_once_for_each_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Results(tmp_path) as results:
        common = {"kind": "generation", "cut": 7}
        results.append([{**common, "unit": "a", "plan": "none"}, {**common, "unit": "a", "plan": "iti@8"}])
        results.append([{**common, "unit": "b", "plan": "none", "cut": 0}])
        told_cut(results)
    assert capsys.readouterr().err.startswith("7 words at the beginnings of long prompts did not fit")
