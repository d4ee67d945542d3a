"""What steering costs, and the strength that a cost buys."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_steering import DIRECTIONS, steering

from lens import Lens, open_lens
from steering import Plan, Steering, cost, steered
from steering.calibrate import TOLERANCE, Calibration, OutOfReach, calibrate, smallest
from steering.cost import cut, log_probs, n_bytes, plain_text

TEXT = "She walked to the harbour and counted the boats coming home. A small garden needs sun, water and patience. " * 2


def windows_of(lens: Lens, length: int) -> torch.Tensor:
    """The text cut by hand."""
    ids = lens.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    return torch.tensor(ids[: len(ids) // length * length]).reshape(-1, length)


def halves(lens: Lens) -> list[str]:
    """The windows of 16 tokens that calibrate, and those that are held out."""
    windows = windows_of(lens, 16)
    texts = [lens.decode(half.flatten().tolist()) for half in (windows[::2], windows[1::2])]
    assert [cut(lens, text, 16).tolist() for text in texts] == [windows[::2].tolist(), windows[1::2].tolist()]
    return texts


def worded(lens: Lens, words: str) -> Steering:
    return Steering(Plan("prompting"), lens.checkpoint.fingerprint, prefix=words)


def test_cost_is_nothing_at_0_and_grows_with_strength(lens: Lens) -> None:
    ours = steering(lens)
    free, small, large = cost(lens, [ours.at(0), ours.at(2), ours.at(12)], TEXT, window=16)
    assert free.kl.value == 0
    assert free.increase.value == 0
    assert 0 < small.kl.value < large.kl.value
    assert free.plain == small.plain == large.plain
    assert small.cross_entropy.value != free.cross_entropy.value
    assert cost(lens, [()], TEXT, window=16)[0].cross_entropy == free.plain


def test_cost_agrees_with_the_model_s_own_loss_and_with_the_reference_road(lens: Lens) -> None:
    doses = steering(lens).at(6)
    (found,) = cost(lens, [doses], TEXT, window=16)
    windows = windows_of(lens, 16)
    assert found.n_tokens == windows[:, 1:].numel()
    assert found.plain.value == pytest.approx(lens.model(windows, labels=windows).loss.item(), abs=1e-5)
    with steered(lens, [doses] * len(windows), "all"):
        steered_log = lens.logits(windows)[:, :-1].log_softmax(-1)
    plain_log = lens.logits(windows)[:, :-1].log_softmax(-1)
    kl = torch.nn.functional.kl_div(steered_log, plain_log, log_target=True, reduction="none").sum(-1).mean()
    loss = torch.nn.functional.nll_loss(steered_log.flatten(0, 1), windows[:, 1:].flatten())
    assert found.kl.value == pytest.approx(kl.item(), abs=1e-5)
    assert found.cross_entropy.value == pytest.approx(loss.item(), abs=1e-5)


def test_bits_per_byte_do_not_ask_how_text_is_cut_into_tokens(lens: Lens) -> None:
    (found,) = cost(lens, [steering(lens).at(6)], TEXT, window=16)
    texts = [lens.decode(window[1:].tolist()) for window in windows_of(lens, 16)]
    assert not any("\ufffd" in text for text in texts)  # no character is torn, so decoding loses no byte
    n_bytes = sum(len(text.encode()) for text in texts)
    for nats, bits in ((found.cross_entropy, found.bits_per_byte), (found.plain, found.plain_bits_per_byte)):
        assert bits.value == pytest.approx(nats.value * found.n_tokens / math.log(2) / n_bytes)
        assert (bits.high - bits.low) / bits.value == pytest.approx((nats.high - nats.low) / nats.value)
        assert bits.n == nats.n


@pytest.mark.parametrize("text", ["She walked", "naïve 🙂 中文, “so”\n\t end", "a<|endoftext|>b", "🙂"])
def test_tokens_stand_for_as_many_bytes_as_their_text_has(lens: Lens, text: str) -> None:
    assert n_bytes(lens, lens.encode(text)) == len(text.encode())


def test_windows_add_up_to_their_cost(lens: Lens) -> None:
    found, none = cost(lens, [steering(lens).at(6), ()], TEXT, window=16)
    assert len(found.increases) == len(found.divergences) == len(windows_of(lens, 16)) == found.kl.n
    assert np.mean(found.increases) == pytest.approx(found.increase.value)
    assert np.mean(found.divergences) == pytest.approx(found.kl.value)
    assert set(none.increases) == set(none.divergences) == {0.0}


def test_words_in_front_are_read_and_not_scored(lens: Lens) -> None:
    words = "Bread, butter and tea: "
    (found,) = cost(lens, [worded(lens, words).at(1)], TEXT, window=16)
    windows = windows_of(lens, 16)
    before = torch.tensor([lens.encode(words.strip())]).expand(len(windows), -1)
    logits = lens.plain_logits(torch.cat([before, windows], dim=1))[:, before.shape[1] : -1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    assert found.cross_entropy.value == pytest.approx(loss.item(), abs=1e-5)
    assert found.n_tokens == windows[:, 1:].numel()
    assert found.plain == cost(lens, [()], TEXT, window=16)[0].plain
    assert found.kl.value > 0.01
    (off,) = cost(lens, [worded(lens, words).at(0)], TEXT, window=16)
    assert off.kl.value == 0
    both, alone = cost(lens, [worded(lens, words).at(1) + steering(lens).at(6), steering(lens).at(6)], TEXT, window=16)
    assert both.kl.value not in (found.kl.value, alone.kl.value)


def test_cost_is_the_same_however_many_windows_go_together(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    doses = [steering(lens).at(6)]
    (together,) = cost(lens, doses, TEXT, window=16)
    monkeypatch.setattr(sys.modules["steering.cost"], "LOGITS_AT_ONCE", 1)
    (alone,) = cost(lens, doses, TEXT, window=16)
    assert alone.kl.value == pytest.approx(together.kl.value, rel=1e-5)  # sums in another order
    assert alone.cross_entropy.value == pytest.approx(together.cross_entropy.value, rel=1e-6)


def test_a_window_not_named_fills_128_tokens_or_the_context(lens: Lens) -> None:
    assert cut(lens, TEXT * 9).shape[1] == 64
    assert cut(lens, TEXT * 9, n_in_front=14).shape[1] == 50
    assert cut(lens, "She walked").shape == (1, len(lens.encode("She walked")))


def test_scoring_with_the_last_position_is_refused(lens: Lens) -> None:
    with pytest.raises(ValueError, match="every strength would cost nothing"):
        cost(lens, [steering(lens).at(4)], TEXT, positions="last")


@pytest.mark.parametrize(
    ("text", "window", "sentence"),
    [("", 16, "at least 2"), (TEXT, 1, "2 to"), (TEXT, 65, "64"), ("\ud800", 16, "half a character")],
)
def test_cost_refuses_what_it_cannot_measure(lens: Lens, text: str, window: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cost(lens, [steering(lens).at(4)], text, window=window)


def test_words_that_leave_no_room_for_text_are_refused(lens: Lens) -> None:
    with pytest.raises(ValueError, match="tiny reads at most 64 tokens, and the method's own words have 63"):
        cost(lens, [worded(lens, "T" * 63).at(1)], TEXT)


def test_the_built_in_text_is_long_enough_for_an_interval() -> None:
    text = plain_text()
    assert len(text.encode()) > 14_000
    assert len(set(text.split("\n\n"))) > 20
    assert not any(mark in text for mark in '"“”')  # nothing quoted


@pytest.mark.parametrize("nats", [0.01, 0.1, 0.7])
def test_a_strength_spends_what_was_asked_and_says_what_it_spends_elsewhere(lens: Lens, nats: float) -> None:
    ours = steering(lens)
    found = calibrate(lens, ours, nats, TEXT, window=16)
    assert found.kl == pytest.approx(nats, rel=TOLERANCE)
    seen, held_out = (cost(lens, [ours.at(found.strength)], half, window=16)[0] for half in halves(lens))
    assert found.kl == pytest.approx(seen.kl.value, rel=1e-4)
    assert found.n_tokens == seen.n_tokens
    assert found.held_out.value == pytest.approx(held_out.kl.value, rel=1e-4)
    assert found.held_out.n == held_out.kl.n
    assert found.held_out.low < found.held_out.value < found.held_out.high
    assert f": {found.strength} standard deviations for {nats:g} nats per token" in str(found)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_strength_is_found_in_half_precision(tiny_folder: Path, dtype: str) -> None:
    rounded = open_lens(str(tiny_folder), device="cpu", dtype=dtype, threads=1)
    assert calibrate(rounded, steering(rounded), 0.2, TEXT, window=16).kl == pytest.approx(0.2, rel=TOLERANCE)


def test_more_nats_are_more_strength_and_the_plain_model_is_read_once(
    lens: Lens, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_reads = []

    def counted(lens: Lens, tokens: torch.Tensor, doses: tuple = (), in_front: tuple = ()) -> torch.Tensor:
        plain_reads.append(not doses)
        return log_probs(lens, tokens, doses, in_front)

    monkeypatch.setattr(sys.modules["steering.calibrate"], "log_probs", counted)
    seen: list[tuple[float, float]] = []
    curve = Calibration(lens, steering(lens), TEXT, 16, lambda *measured: seen.append(measured))
    strengths = [curve.spend(nats).strength for nats in (0.02, 0.1, 0.5)]
    assert strengths == sorted(set(strengths))
    assert len({strength for strength, _ in seen}) == len(seen) < 15
    assert dict(seen)[strengths[1]] == pytest.approx(0.1, rel=TOLERANCE)
    assert sum(plain_reads) == 1 + 3  # the windows that calibrate, and those held out for each
    kept = [curve.spend(nats) for nats in (0.02, 0.1, 0.5)]
    monkeypatch.setattr(sys.modules["steering.calibrate"], "PLAIN_AT_ONCE", 1)
    anew = Calibration(lens, steering(lens), TEXT, 16)
    assert [anew.spend(nats) for nats in (0.02, 0.1, 0.5)] == kept


def test_a_cost_out_of_reach_is_refused_with_the_largest(lens: Lens) -> None:
    weak = steering(lens, [replace(DIRECTIONS[0], sigma=0.01)])
    most = cost(lens, [weak.at(100)], halves(lens)[0], window=16)[0].kl.value
    with pytest.raises(OutOfReach, match=r"spends at most (\S+) nats .* at strength 100 of 0 to 100; 9 are") as refused:
        calibrate(lens, weak, 9, TEXT, window=16)
    assert float(str(refused.value).split("at most ")[1].split()[0]) == pytest.approx(most, rel=1e-3)
    with pytest.raises(OutOfReach, match="spends at most 0 nats"):
        calibrate(lens, Steering(Plan(), lens.checkpoint.fingerprint), 0.1, TEXT, window=16)


@pytest.mark.parametrize("nats", [0, -1, math.nan, math.inf, "0.1", None])
@pytest.mark.wrong_types
def test_nats_are_a_number_above_nothing(lens: Lens, nats: object) -> None:
    with pytest.raises(ValueError, match="nats is a KL per token above 0"):
        calibrate(lens, steering(lens), nats, TEXT, window=16)  # type: ignore[arg-type]


def test_words_are_on_or_off(lens: Lens) -> None:
    words = worded(lens, "Bread, butter and tea: ")
    kl = cost(lens, [words.at(1)], TEXT, window=16)[0].kl
    with pytest.raises(OutOfReach, match="on or off") as refused:
        calibrate(lens, words, 0.1, TEXT, window=16)
    assert str(kl) in str(refused.value)


def test_a_text_of_one_window_cannot_be_checked_elsewhere(lens: Lens) -> None:
    with pytest.raises(ValueError, match="at least two windows of 64"):
        calibrate(lens, steering(lens), 0.1, TEXT)


def test_the_smallest_of_several_strengths_is_found() -> None:
    def hill(strength: float) -> float:
        """Up to 1 at strength 10, down to 0.2 at 20, and up again."""
        return float(np.interp(strength, [0, 10, 20, 100], [0, 1, 0.2, 3]))

    assert smallest(hill, 0.5, 100) == pytest.approx(5, rel=TOLERANCE)
    assert smallest(hill, 2, 100) == pytest.approx(20 + 80 * 1.8 / 2.8, rel=2 * TOLERANCE)
    with pytest.raises(OutOfReach, match="at most 3 nats per token, at strength 100"):
        smallest(hill, 3.5, 100)


def test_a_peak_between_two_tries_is_looked_for_before_a_cost_is_out_of_reach() -> None:
    def bump(strength: float) -> float:
        return math.exp(-(((strength - 19) / 9) ** 2))

    assert bump(12.5) < 0.9 > bump(25)
    assert bump(smallest(bump, 0.98, 100)) == pytest.approx(0.98, rel=TOLERANCE)
    with pytest.raises(OutOfReach, match=r"at most 1 nats per token, at strength 1[89]"):
        smallest(bump, 1.1, 100)


def test_a_cost_that_a_jump_leaves_out_is_refused_with_both_sides() -> None:
    with pytest.raises(OutOfReach, match=r"spends 0\.1 nats per token at strength 3\.\d+ and jumps to 0\.4 at 3"):
        smallest(lambda strength: 0.1 if 0 < strength < 3.3 else 0.4 * (strength > 0), 0.2, 100)


@pytest.mark.parametrize("end", [40, 60, 0.5])
def test_strengths_reach_to_where_the_model_computes_no_numbers(end: float) -> None:
    """The KL is 1 there, wherever that is."""

    def curve(strength: float) -> float:
        return strength / end if strength < end else math.nan

    assert smallest(curve, 0.75, 100) == pytest.approx(0.75 * end, rel=TOLERANCE)
    with pytest.raises(
        OutOfReach, match=r"at most (1|0\.99\d*) nats per token, at strength .* of 0 to 100; 1.1 are out"
    ):
        smallest(curve, 1.1, 100)


@pytest.mark.parametrize("power", [0.3, 1, 2, 6])
@pytest.mark.parametrize("nats", [1e-4, 0.03, 0.9])
def test_few_tries_are_enough(power: float, nats: float) -> None:
    tried: set[float] = set()

    def curve(strength: float) -> float:
        tried.add(strength)
        return (strength / 100) ** power

    assert curve(smallest(curve, nats, 100)) == pytest.approx(nats, rel=TOLERANCE)
    assert len(tried) < 30
