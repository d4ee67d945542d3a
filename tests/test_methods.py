"""Every method: nothing at strength 0, one text on both roads, alone and beside others, and a receipt that holds."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from marked import EDITS, PREFIX, WORDS, marked, marked_lens
from torch import Tensor

from lens import Lens, open_lens
from steering import Dose, Row, Sampling, ShiftMissed, Shifts, Steering, fit, generate, hooked, steered
from steering.decode import Decoder
from steering.edit import Edit
from steering.methods.prefix import DETOX_PROMPT
from steering.steerer import Amount, _by_matrices

PROMPT, OTHER, SHORT = "The people next door are", "A small garden needs sun, water", "T"
HARSH_TEXT = marked().texts[0].text
GREEDY, SAMPLED = Sampling(temperature=0, max_tokens=8), Sampling(max_tokens=8, seed=3)
every_edit = pytest.mark.parametrize("name", EDITS)
Fitted = dict[str, tuple[Steering, float]]


@pytest.fixture(scope="module")
def lens(tmp_path_factory: pytest.TempPathFactory) -> Lens:
    return marked_lens(tmp_path_factory.mktemp("marked") / "tiny")


@pytest.fixture(scope="module")
def fitted(lens: Lens) -> Fitted:
    return {name: (fit(plan, lens, marked()), strength) for name, (plan, strength) in (EDITS | WORDS).items()}


@pytest.fixture(scope="module")
def batch(lens: Lens) -> tuple[Tensor, Tensor]:
    """Rows of different lengths, padded, and their mask."""
    return lens.pad([lens.encode(text) for text in (HARSH_TEXT, OTHER, HARSH_TEXT[:-6])])


def first_logits(lens: Lens, rows: Sequence[Row]) -> Tensor:
    """Of our own loop's first step, each row with its own shifts."""
    prompts = [lens.encode(row.prompt) for row in rows]
    shifts = Shifts(lens, [row.doses for row in rows])
    decoder = Decoder(lens, [prompt[:-1] for prompt in prompts], range(len(rows)), 2, shifts)
    return decoder.step(torch.tensor([prompt[-1] for prompt in prompts]), shifts)


SECOND_FITS = {
    "again": {},
    "gated": {"gate": 0.5},
    "at every position": {"positions": "all"},
    "same place by its name": {"where": "residual"},
}


@pytest.mark.parametrize("changed", SECOND_FITS.values(), ids=SECOND_FITS)
def test_the_limit_on_summed_strengths_holds_for_a_second_fit(lens: Lens, changed: dict[str, object]) -> None:
    plan, _ = EDITS["act"]
    one, other = fit(plan, lens, marked()), fit(replace(plan, **changed), lens, marked())  # type: ignore[arg-type]
    generate(lens, [Row(PROMPT, one.at(0.4) + other.at(0.6))], GREEDY)
    for doses in (one.at(0.6) + other.at(0.6), other.at(1) + one.at(1), one.at(0.4) + one.at(0.4) + other.at(0.4)):
        with pytest.raises(ValueError, match=r"is a number from 0 to 1; got .*\. The strengths of . plans add up at L"):
            generate(lens, [Row(PROMPT), Row(PROMPT, doses)], GREEDY)


def test_strengths_add_up_head_by_head_and_layer_by_layer(lens: Lens) -> None:
    plan, _ = EDITS["iti"]
    all_heads, one_head = (fit(replace(plan, heads=heads), lens) for heads in ("L0H1 L2H3", "L2H3"))
    elsewhere, control = fit(replace(plan, heads="L1H0"), lens), fit(replace(plan, kind="random"), lens)
    generate(lens, [Row(PROMPT, all_heads.at(100) + elsewhere.at(-100) + control.at(100))], GREEDY)
    generate(lens, [Row(PROMPT, all_heads.at(90) + one_head.at(60) + one_head.at(-50))], GREEDY)
    with pytest.raises(ValueError, match=r"from -100 to 100; got 150\.0\. The strengths of 2 plans add up at L2H3\."):
        generate(lens, [Row(PROMPT, all_heads.at(90) + one_head.at(60))], GREEDY)
    asked = fit(WORDS["prefix"][0], lens)
    with pytest.raises(ValueError, match="is on or off"):
        generate(lens, [Row(PROMPT, asked.at(1) + fit(WORDS["prefix"][0], lens).at(1))], GREEDY)
    tenths = fit(EDITS["act"][0], lens, marked())
    generate(lens, [Row(PROMPT, tenths.at(0.1) * 3 + tenths.at(0.7))], GREEDY)  # which is more than 1 when rounded


def edited_in_place(lens: Lens, dose: Dose, begin: int, undo: ExitStack, see: object = None) -> None:
    """The reference road from one position on: every edit a full matrix, through the bridge, until `undo` is left."""
    for site in {edit.site for edit in dose.steering.edits}:
        ones = [(edit, torch.tensor([dose.strength])) for edit in dose.steering.edits if edit.site == site]

        def edit(x: Tensor, ones: list[tuple[Edit, Tensor]] = ones) -> Tensor:
            if see is not None:
                see(x.flatten(2), [one for one, _ in ones])
            return _by_matrices(x, ones, begin)

        place = lens.on_heads if site.where == "heads" else lens.on_residual
        undo.enter_context(place(site.layer, edit))


@every_edit
def test_strength_0_is_the_plain_model_to_the_bit(
    lens: Lens, fitted: Fitted, batch: tuple[Tensor, Tensor], name: str
) -> None:
    ours, strength = fitted[name]
    plain = first_logits(lens, [Row(PROMPT), Row(PROMPT)])
    beside = first_logits(lens, [Row(PROMPT, ours.at(0)), Row(PROMPT, ours.at(strength))])
    assert torch.equal(beside[0], plain[0])
    assert not torch.equal(beside[1], plain[1])
    logits = lens.plain_logits(*batch)
    with hooked(lens, Shifts(lens, [ours.at(0), ours.at(strength), ours.at(0)]), ours.plan.positions):
        edited = lens.plain_logits(*batch)
    assert torch.equal(edited[[0, 2]], logits[[0, 2]])
    assert not torch.equal(edited[1], logits[1])
    reference = lens.logits(*batch)
    with steered(lens, [ours.at(0)] * 3, ours.plan.positions):
        assert torch.equal(lens.logits(*batch), reference)


@every_edit
def test_a_gate_that_never_opens_is_the_plain_model_to_the_bit(lens: Lens, name: str) -> None:
    plan, strength = EDITS[name]
    shut = fit(replace(plan, gate=math.inf), lens, marked())
    rows = [Row(PROMPT, shut.at(strength)), Row(OTHER, shut.at(strength))]
    assert torch.equal(first_logits(lens, rows), first_logits(lens, [Row(PROMPT), Row(OTHER)]))
    texts, plain = generate(lens, rows, SAMPLED), generate(lens, [Row(PROMPT), Row(OTHER)], SAMPLED)
    assert [text.tokens for text in texts] == [text.tokens for text in plain]
    assert [text.receipt.gated for text in texts] == [0, 0]


@pytest.mark.parametrize("name", WORDS)
def test_words_in_front_are_there_or_not(lens: Lens, fitted: Fitted, name: str) -> None:
    ours, _ = fitted[name]
    off, on, plain = generate(lens, [Row(PROMPT, ours.at(0)), Row(PROMPT, ours.at(1)), Row(PROMPT)], SAMPLED)
    assert off.tokens == plain.tokens
    assert Row(PROMPT, ours.at(1)).read == {"prompting": DETOX_PROMPT, "prefix": PREFIX}[name] + PROMPT
    assert on.tokens == generate(lens, [Row(PROMPT, ours.at(1))], SAMPLED)[0].tokens


@every_edit
@pytest.mark.parametrize("positions", ["last", "all"])
def test_both_roads_lead_to_the_same_logits(
    lens: Lens, fitted: Fitted, batch: tuple[Tensor, Tensor], name: str, positions: str
) -> None:
    ours, strength = fitted[name]
    rows = [ours.at(strength), ours.at(0), ours.at(strength / 2)]
    with hooked(lens, Shifts(lens, rows), positions):
        fast = lens.plain_logits(*batch)
    with steered(lens, rows, positions):
        reference = lens.logits(*batch)
    real = batch[1].bool()
    assert (fast - lens.plain_logits(*batch))[real].abs().max() > 1e-3
    torch.testing.assert_close(fast[real], reference[real], rtol=0, atol=1e-4)  # float32, other kernels


def by_the_reference(lens: Lens, row: Row, sampling: Sampling) -> tuple[int, ...]:
    """The slow road, greedy: the whole text so far through the bridge for every token."""
    prompt, written = lens.encode(row.read), []
    with ExitStack() as undo:
        for dose in row.doses:
            edited_in_place(lens, dose, 0 if dose.everywhere else len(prompt) - 1, undo)
        for _ in range(sampling.max_tokens):
            logits = lens.logits(torch.tensor([prompt + written]))[0, -1].masked_fill(~lens.real_tokens, -math.inf)
            if (token := int(logits.argmax())) == lens.eos:
                break
            written.append(token)
    return tuple(written)


@pytest.mark.parametrize("name", EDITS | WORDS)
def test_the_loop_writes_what_the_reference_writes(lens: Lens, fitted: Fitted, name: str) -> None:
    ours, strength = fitted[name]
    row = Row(PROMPT, ours.at(strength))
    assert generate(lens, [row], GREEDY)[0].tokens == by_the_reference(lens, row, GREEDY)


def test_a_row_writes_the_same_alone_and_among_all_methods(lens: Lens, fitted: Fitted) -> None:
    rows = [Row(PROMPT, ours.at(strength)) for ours, strength in fitted.values()]
    (iti, sigmas), (caa, differences) = fitted["iti"], fitted["caa, gate"]
    rows += [Row(OTHER, iti.at(sigmas) + caa.at(differences)), Row(OTHER), Row(SHORT, fitted["act"][0].at(0.5))]
    together = generate(lens, rows, SAMPLED)
    for row, text in zip(rows, together, strict=True):
        (alone,) = generate(lens, [row], SAMPLED)
        assert text.tokens == alone.tokens
        assert text.receipt.gated == alone.receipt.gated
        assert text.receipt.n_positions == alone.receipt.n_positions
    assert len({text.tokens for text in together}) > len(rows) / 2


@every_edit
def test_leaving_restores_the_model(lens: Lens, fitted: Fitted, batch: tuple[Tensor, Tensor], name: str) -> None:
    ours, strength = fitted[name]
    plain, reference = lens.plain_logits(*batch), lens.logits(*batch)
    n_hooks = sum(len(module._forward_hooks) for module in lens.model.modules())
    rows = [ours.at(strength)] * 3
    with pytest.raises(KeyError), hooked(lens, Shifts(lens, rows), "last"):
        raise KeyError
    with pytest.raises(KeyError), steered(lens, rows, "last"):
        raise KeyError
    assert torch.equal(lens.plain_logits(*batch), plain)
    assert torch.equal(lens.logits(*batch), reference)
    assert sum(len(module._forward_hooks) for module in lens.model.modules()) == n_hooks


@every_edit
def test_receipts_hold_and_a_miss_is_an_error(
    lens: Lens, fitted: Fitted, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ours, strength = fitted[name]
    row = Row(marked().texts[0].text, ours.at(strength))
    (text,) = generate(lens, [row], SAMPLED)
    assert [shift.edit for shift in text.receipt.shifts] == [
        edit.name for edit in sorted(ours.edits, key=lambda edit: edit.site)
    ]
    assert any(abs(shift.measured) > 1e-2 for shift in text.receipt.shifts)
    assert text.receipt.worst_miss < 1e-4
    steerer = sys.modules["steering.steerer"]
    pushed, amount, line_up = steerer._written, Amount.__call__, Shifts._line_up
    for factor in (0.0, 0.98, -1.0, 2.0):
        with monkeypatch.context() as patch:
            patch.setattr(steerer, "_written", lambda *given, factor=factor: factor * pushed(*given))
            patch.setattr(Amount, "__call__", lambda self, x, factor=factor: factor * amount(self, x))
            with pytest.raises(ShiftMissed, match=r"a shift of length .* was asked and .* arrived"):
                generate(lens, [row], SAMPLED)

    def dropped(shifts: Shifts) -> None:
        line_up(shifts)
        shifts.layers[max(edit.site.layer for edit in ours.edits)] = (None, None)

    monkeypatch.setattr(Shifts, "_line_up", dropped)
    with pytest.raises(ShiftMissed, match="it was never reached"):
        generate(lens, [row], SAMPLED)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_receipts_of_methods_that_oppose_each_other_hold_in_half_precision(
    lens: Lens, fitted: Fitted, dtype: str
) -> None:
    half = open_lens(lens.checkpoint, device="cpu", dtype=dtype, threads=1)
    names = ["caa", "ablate", "mean-act", "leace", "mean-act, heads", "leace, heads"]
    for pair in combinations(names, 2):
        doses = tuple(dose for name in pair for dose in fitted[name][0].at(fitted[name][1]))
        texts = generate(half, [Row(text.text, doses) for text in marked().texts[::29]], Sampling(max_tokens=1))
        assert all(len(text.receipt.shifts) > 1 for text in texts)


@pytest.mark.parametrize("name", [name for name, (plan, _) in EDITS.items() if plan.gate is not None])
def test_the_share_that_gates_let_through_is_counted_token_by_token(lens: Lens, fitted: Fitted, name: str) -> None:
    """By hand: the whole text through the bridge, every gate asked about every position that its plan edits."""
    ours, strength = fitted[name]
    (dose,) = ours.at(strength)
    (text,) = generate(lens, [Row(PROMPT, (dose,))], SAMPLED)
    prompt, answers = lens.encode(PROMPT), []
    first = 0 if dose.everywhere else len(prompt) - 1

    def ask(x: Tensor, edits: Sequence[Edit]) -> None:
        for edit in edits:
            logits = x[0, first:].double() @ edit.gate.weight.double() + edit.gate.bias
            answers.extend((1 / (1 + (-logits).exp()) > edit.gate.threshold).tolist())

    with ExitStack() as undo:
        edited_in_place(lens, dose, first, undo, ask)
        lens.logits(torch.tensor([[*prompt, *text.tokens][: len(prompt) + 7]]))  # the last of 8 is never read
    assert len(answers) == (len(prompt) + 7 - first) * len(ours.edits)
    assert text.receipt.gated == sum(answers) / len(answers)
