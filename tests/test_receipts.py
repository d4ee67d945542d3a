"""What a receipt counts and refuses: gates, positions, the prompt, and numbers that are none."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import spoil, write_tiny_olmo
from test_generate import OTHER, PROMPT, SAMPLED, row
from test_steering import DIRECTIONS, steering

from lens import Head, Lens, open_lens
from steering import Gate, Plan, Row, Sampling, ShiftMissed, Shifts, Steering, fit, generate, hooked
from steering.batch import NotNumbers
from steering.calibrate import smallest
from steering.decode import Decoder
from steering.edit import Affine, Edit, Site
from steering.receipt import _at_one_place

SHORT = Sampling(max_tokens=6)


def gated(lens: Lens, positions: str = "last") -> Steering:
    """DIRECTIONS, each behind a gate that opens for about half of the tokens."""
    ours = steering(lens, DIRECTIONS, positions)
    weight = torch.randn(24, generator=torch.Generator().manual_seed(0))
    edits = tuple(replace(edit, gate=Gate(weight, 0.0, 0.5)) for edit in ours.edits)
    return replace(ours, edits=edits)


def test_a_receipt_says_what_was_asked_and_what_arrived(lens: Lens) -> None:
    plain, strong, all_of_it = generate(
        lens, [Row(PROMPT), row(lens, PROMPT, 8, sample=1), row(lens, PROMPT, 8, positions="all")], SAMPLED
    )
    receipt = strong.receipt
    assert [shift.edit for shift in receipt.shifts] == sorted(str(d.head) for d in DIRECTIONS)
    assert all(shift.requested > 0.5 for shift in receipt.shifts)
    assert 0 < receipt.worst_miss < 1e-5
    assert plain.receipt.worst_miss == 0
    assert receipt.model == lens.description
    assert (receipt.seed, receipt.sample, receipt.gated) == (3, 1, None)
    assert receipt.doses == ((Plan(), 8),)
    assert (plain.receipt.n_positions, receipt.n_positions) == (0, 20)
    assert all_of_it.receipt.n_positions == 20 + len(lens.encode(PROMPT)) - 1
    assert "last position at 8: 4 edits in 3 layers, 20 positions, mean shift" in str(receipt)
    written = json.loads(json.dumps(receipt.to_dict()))
    assert written["shifts"][0]["edit"] == "L0H1"
    assert Plan.from_json(json.dumps(written["doses"][0]["plan"])) == Plan()


def test_a_receipt_asks_for_what_the_directions_say_layer_by_layer(lens: Lens) -> None:
    (text,) = generate(lens, [row(lens, PROMPT, -5)], Sampling(max_tokens=1))
    pushed = {d.head: d.push(1.0) @ lens.W_O(d.head.layer)[d.head.index] for d in DIRECTIONS}
    for shift in text.receipt.shifts:
        own, layer = pushed[Head.parse(shift.edit)], Head.parse(shift.edit).layer
        whole = sum(push for head, push in pushed.items() if head.layer == layer)
        assert shift.requested == pytest.approx(float(-5 * whole @ own / own.norm()), rel=1e-5)


def test_a_dropped_layer_is_an_error_and_not_a_quiet_plain_text(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Shifts._line_up

    def without_layer_1(shifts: Shifts) -> None:
        right(shifts)
        shifts.layers[1] = (None, None)

    monkeypatch.setattr(Shifts, "_line_up", without_layer_1)
    with pytest.raises(ShiftMissed, match="layer 1, heads, of tiny: it was never reached"):
        generate(lens, [row(lens, PROMPT, 4)], SAMPLED)


@pytest.mark.parametrize("factor", [0.0, "almost", -1.0, 2.0, math.nan])
@pytest.mark.parametrize(("dtype", "almost"), [("float32", 0.99), ("bfloat16", 0.97)])
def test_a_push_of_the_wrong_size_is_an_error(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, almost: float, factor: float | str
) -> None:
    lens = open_lens(str(tiny_folder), device="cpu", dtype=dtype, threads=1)
    by, written = almost if factor == "almost" else factor, sys.modules["steering.steerer"]._written
    monkeypatch.setattr(sys.modules["steering.steerer"], "_written", lambda *given: by * written(*given))
    with pytest.raises(ShiftMissed, match=r"a shift of length .* was asked and .* arrived"):
        generate(lens, [row(lens, PROMPT, 4)], SAMPLED)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_receipts_hold_in_half_precision(tiny_folder: Path, dtype: str) -> None:
    lens = open_lens(str(tiny_folder), device="cpu", dtype=dtype, threads=1)
    texts = generate(lens, [Row(PROMPT), row(lens, PROMPT, 8), row(lens, OTHER, 8)], SAMPLED)
    assert all(shift.measured == pytest.approx(shift.requested, rel=0.02) for shift in texts[1].receipt.shifts)
    assert len(texts[1].tokens) > 1


def test_a_row_that_has_ended_is_counted_no_further(lens: Lens) -> None:
    """Beside a longer text it is computed on; its receipt stays that of the text alone."""
    long = " water" * (60 // len(lens.encode(" water")))
    rows = [Row(long, gated(lens).at(8)), Row(PROMPT, gated(lens).at(8))]
    whole = Sampling(max_tokens=20)
    together, alone = generate(lens, rows, whole), [generate(lens, [row], whole)[0] for row in rows]
    assert len(together[0].tokens) < len(together[1].tokens) == 20
    for one, other in zip(together, alone, strict=True):
        assert one.tokens == other.tokens
        assert (one.receipt.gated, one.receipt.n_positions) == (other.receipt.gated, other.receipt.n_positions)
    assert together[1].receipt.n_positions == 20


def test_gates_are_counted_over_the_prompt_too_where_it_is_edited(lens: Lens) -> None:
    everywhere, sampling = gated(lens, "all"), Sampling(max_tokens=1)
    (text, _) = generate(lens, [Row(PROMPT, everywhere.at(8)), Row(OTHER, everywhere.at(8))], sampling)
    ids = torch.tensor([lens.encode(PROMPT)])
    shifts = Shifts(lens, [everywhere.at(8)])
    with hooked(lens, shifts, "all"):
        lens.plain_logits(ids)
    opens = torch.stack([gate.opens for gate in shifts.gates])
    assert opens.shape == (4, 1, ids.shape[1])
    assert 0 < opens.double().mean() < 1
    assert text.receipt.gated == pytest.approx(opens.double().mean().item())
    assert text.receipt.n_positions == ids.shape[1]


def test_a_prompt_that_was_read_plain_is_an_error(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Decoder._read
    plain = Shifts(lens, [()])
    monkeypatch.setattr(Decoder, "_read", lambda self, prefixes, n, shifts, seen: read(self, prefixes, n, plain, seen))
    generate(lens, [Row(PROMPT, steering(lens).at(8))], SHORT)
    with pytest.raises(ShiftMissed, match="layer 0, heads, of tiny: it was never reached"):
        generate(lens, [Row(PROMPT, steering(lens, positions="all").at(8))], SHORT)


def test_one_edit_in_two_plans_is_two_shifts(lens: Lens) -> None:
    last = steering(lens)
    every = replace(last, plan=replace(last.plan, positions="all"))
    one, other, both = generate(
        lens, [Row(PROMPT, last.at(4)), Row(PROMPT, every.at(8)), Row(PROMPT, last.at(4) + every.at(8))], SHORT
    )
    assert len(both.receipt.shifts) == len(one.receipt.shifts) + len(other.receipt.shifts)
    assert both.receipt.mean_shift[0] == pytest.approx(one.receipt.mean_shift[0] + other.receipt.mean_shift[0])


def test_doses_of_one_plan_cannot_add_up_beyond_its_bounds(lens: Lens) -> None:
    ours = steering(lens)
    with pytest.raises(ValueError, match="from -100 to 100; got 120"):
        generate(lens, [Row(PROMPT, ours.at(60) + ours.at(60))], SHORT)


@pytest.mark.parametrize("half", [0.5, 0.001, 2, -1])
def test_words_in_front_are_on_or_off(lens: Lens, half: float) -> None:
    with pytest.raises(ValueError, match="Prompting is on or off"):
        fit(Plan("prompting"), lens).at(half)


def test_what_is_no_number_is_never_a_word(tmp_path: Path) -> None:
    folder = spoil(write_tiny_olmo(tmp_path / "spoilt"), "model.layers.2.mlp.down_proj.weight")
    lens = open_lens(str(folder), device="cpu", threads=1)
    with pytest.raises(NotNumbers, match="no number, in float32"):
        generate(lens, [Row(PROMPT)], SHORT)


def test_an_open_lens_is_named_for_the_weights_it_computes_with(tmp_path: Path) -> None:
    folder, other = write_tiny_olmo(tmp_path / "one"), write_tiny_olmo(tmp_path / "two", seed=1)
    lens = open_lens(str(folder), device="cpu", threads=1)
    before = lens.fingerprint
    shutil.copyfile(other / "model.safetensors", folder / "new")
    (folder / "new").rename(folder / "model.safetensors")
    assert lens.checkpoint.fingerprint != before
    assert generate(lens, [Row(PROMPT)], SHORT)[0].receipt.model["fingerprint"] == before


def test_a_peak_behind_the_last_doubling_is_found() -> None:
    found = smallest(lambda strength: 1.2 - 5 * (strength - 0.75) ** 2 if strength else 0.0, 1.1, 1.0)
    assert 1.2 - 5 * (found - 0.75) ** 2 == pytest.approx(1.1, rel=0.01)


def test_a_small_difference_of_large_terms_may_be_rounded(lens: Lens) -> None:
    """Ablating a direction that an activation all but lacks: what is left depends on who adds up in which order."""
    n, rng, strength = 24, torch.Generator().manual_seed(0), torch.tensor([[[0.7]]])
    unit = torch.nn.functional.normalize(torch.randn(n, generator=rng), dim=0)
    x = 20 * torch.randn(1, n, generator=rng)
    x[:, ::2] *= 1e-4  # here the stream itself is hardly rounded
    x -= (x[:, 1::2] @ unit[1::2])[:, None] * torch.where(x.abs() > 0.01, unit, 0) / unit[1::2].square().sum()
    edit = Edit("L1", Site(1, "residual"), Affine(torch.zeros(n), left=-unit[:, None], right=unit[None]))
    exact = -0.7 * (x.double() @ unit.double())[:, None] * unit.double()
    after = (x.double() + exact).float()
    ((asked,),), ((arrived,),), ((tolerance,),) = _at_one_place(lens, edit.site, [edit], strength, x, x, after)
    assert arrived == pytest.approx(asked, abs=1e-5)
    assert abs(arrived - asked) <= tolerance < 1e-4
    with pytest.raises(ShiftMissed):
        _at_one_place(lens, edit.site, [edit], strength, x, x, after + 1e-4)
