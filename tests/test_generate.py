"""Generation: batches that change nothing, noise in common, text without broken characters, receipts that hold."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import write_tiny_olmo
from test_steering import DIRECTIONS

from lens import EmptyPrompt, Lens, PromptTooLong, open_lens
from probes import Direction
from steering import (
    Generation,
    Plan,
    Row,
    Sampling,
    ShiftMissed,
    Step,
    generate,
    interleaved,
    prompted,
    pushes,
    stream,
)
from steering.sampling import gumbel, next_tokens
from steering.words import Words

PROMPT, OTHER, SHORT = "The people next door are", "A small garden needs sun, water", "T"
SAMPLED = Sampling(max_tokens=20, seed=3)
GREEDY = Sampling(temperature=0, max_tokens=20)


def tokens(texts: Sequence[Generation]) -> list[tuple[int, ...]]:
    return [text.tokens for text in texts]


def by_the_reference(lens: Lens, row: Row, sampling: Sampling, positions: str) -> tuple[int, ...]:
    """The slow road: the whole text so far through the bridge for every token, no cache, each head edited in place."""
    prompt = lens.encode(row.prompt)
    written: list[int] = []
    first = len(prompt) - 1 if positions == "last" else 0

    def edit(z: torch.Tensor, direction: Direction) -> torch.Tensor:
        pushed = z.clone()
        pushed[:, first:, direction.head.index] += direction.push(row.sigmas)
        return pushed

    with ExitStack() as undo:
        for direction in DIRECTIONS:
            undo.enter_context(lens.on_heads(direction.head.layer, partial(edit, direction=direction)))
        for step in range(min(sampling.max_tokens, lens.n_context - len(prompt))):
            logits = lens.logits(torch.tensor([prompt + written]))[:, -1].masked_fill(~lens.real_tokens, -math.inf)
            noise = gumbel(sampling.seed, prompt, row.sample, step, lens.n_vocab)[None]
            token = int(next_tokens(logits, noise, sampling))
            if token == lens.eos:
                break
            written.append(token)
    return tuple(written)


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("sampling", [SAMPLED, GREEDY])
def test_the_fast_road_writes_what_the_reference_writes(lens: Lens, positions: str, sampling: Sampling) -> None:
    rows = [Row(PROMPT, 0), Row(PROMPT, 4), Row(OTHER, 8), Row(SHORT, -3, sample=1)]
    fast = generate(lens, rows, DIRECTIONS, sampling, positions)
    assert tokens(fast) == [by_the_reference(lens, row, sampling, positions) for row in rows]


def test_both_roads_write_the_same_64_tokens(tmp_path: Path) -> None:
    lens = open_lens(str(write_tiny_olmo(tmp_path / "long", max_position_embeddings=128)), device="cpu", threads=1)
    sampling = Sampling(max_tokens=64, seed=1)
    (fast,) = generate(lens, [Row(PROMPT, 6)], DIRECTIONS, sampling)
    assert fast.tokens == by_the_reference(lens, Row(PROMPT, 6), sampling, "last")
    assert len(fast.tokens) == 64
    (plain,) = generate(lens, [Row(PROMPT, 0)], DIRECTIONS, sampling)
    assert plain.tokens != fast.tokens


def test_rows_write_the_same_alone_and_in_a_batch(lens: Lens) -> None:
    rows = [Row(p, s, k) for p in (PROMPT, OTHER, SHORT) for s in (0.0, 8.0) for k in (0, 1)]
    for positions in ("last", "all"):
        together = generate(lens, rows, DIRECTIONS, SAMPLED, positions)
        alone = [generate(lens, [row], DIRECTIONS, SAMPLED, positions)[0] for row in rows]
        assert tokens(together) == tokens(alone)
        assert [one.text for one in together] == [one.text for one in alone]


def test_strength_0_writes_what_the_plain_model_writes(lens: Lens) -> None:
    rows = [Row(PROMPT, 0), Row(OTHER, 0)]
    assert tokens(generate(lens, rows, DIRECTIONS, SAMPLED)) == tokens(generate(lens, rows, [], SAMPLED))


def test_greedy_text_is_hugging_face_s(lens: Lens) -> None:
    (ours,) = generate(lens, [Row(PROMPT, 0)], [], GREEDY)
    prompt = torch.tensor([lens.encode(PROMPT)])
    unreal = [[int(i)] for i in (~lens.real_tokens).nonzero()]
    theirs = lens.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, do_sample=False, bad_words_ids=unreal
    )
    assert list(ours.tokens) == [t for t in theirs[0, prompt.shape[1] :].tolist() if t != lens.eos]


def test_the_noise_does_not_know_the_strength(lens: Lens) -> None:
    """Where steering changes no distribution, it changes no word: a push of almost nothing gives the same text."""
    almost = generate(lens, [Row(PROMPT, 1e-6), Row(PROMPT, 0)], DIRECTIONS, SAMPLED)
    assert almost[0].tokens == almost[1].tokens
    samples = generate(lens, [Row(PROMPT, 0, sample) for sample in range(4)], DIRECTIONS, SAMPLED)
    assert len(set(tokens(samples))) == 4
    again = generate(lens, [Row(PROMPT, 0)], DIRECTIONS, replace(SAMPLED, seed=4))
    assert again[0].tokens != samples[0].tokens


def test_a_stream_grows_by_a_token_and_ends_where_generate_ends(lens: Lens) -> None:
    rows = [Row(PROMPT, 0), Row(OTHER, 8), Row(SHORT, 8)]
    steps = list(stream(lens, rows, DIRECTIONS, SAMPLED))
    whole = generate(lens, rows, DIRECTIONS, SAMPLED)
    assert [step.n_tokens[0] for step in steps] == list(range(1, 21))
    assert steps[-1].texts == [text.text for text in whole]
    assert steps[-1].done == [True, True, True]
    assert not any(steps[0].done)
    for earlier, later in pairwise(steps):
        assert all(new.startswith(old) for old, new in zip(earlier.texts, later.texts, strict=True))


def test_the_model_is_plain_while_a_stream_is_looked_at(lens: Lens) -> None:
    ids = torch.tensor([lens.encode(PROMPT)])
    plain = lens.plain_logits(ids)
    for _step in stream(lens, [Row(PROMPT, 12)], DIRECTIONS, SAMPLED):
        assert torch.equal(lens.plain_logits(ids), plain)


def test_stop_works_within_a_token(lens: Lens) -> None:
    stop = threading.Event()
    seen = 0
    for step in stream(lens, [Row(PROMPT, 4)], DIRECTIONS, SAMPLED, stop=stop):
        seen = step.n_tokens[0]
        if seen == 3:
            stop.set()
    assert seen == 3
    assert generate(lens, [Row(PROMPT, 4)], DIRECTIONS, SAMPLED, stop=stop)[0].tokens == ()


def test_rows_end_at_the_end_of_text_and_the_others_go_on(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(PROMPT, 0, sample) for sample in range(12)]
    unending = generate(lens, rows, DIRECTIONS, SAMPLED)
    end = unending[0].tokens[5]
    monkeypatch.setattr(lens, "eos", end)
    expected = [one.tokens[: one.tokens.index(end)] if end in one.tokens else one.tokens for one in unending]
    assert tokens(generate(lens, rows, DIRECTIONS, SAMPLED)) == expected
    assert tokens(generate(lens, [rows[0]], DIRECTIONS, SAMPLED)) == expected[:1]


def test_finished_rows_of_a_large_batch_are_no_longer_computed(lens: Lens) -> None:
    long = " water" * (58 // len(lens.encode(" water")))
    left = lens.n_context - len(lens.encode(long))
    rows = [Row(long, 4, sample) for sample in range(9)] + [Row(SHORT, 4)]
    sizes = []
    handle = lens.model.lm_head.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    together = generate(lens, rows, DIRECTIONS, replace(SAMPLED, max_tokens=20))
    handle.remove()
    assert [len(one.tokens) for one in together] == [left] * 9 + [20]
    assert sizes == [10] * left + [1] * (20 - left)
    assert together[-1].tokens == generate(lens, rows[-1:], DIRECTIONS, replace(SAMPLED, max_tokens=20))[0].tokens


def test_the_context_is_filled_and_no_further(lens: Lens) -> None:
    (text,) = generate(lens, [Row(PROMPT, 0)], [], Sampling(max_tokens=63))
    assert len(text.tokens) + len(lens.encode(PROMPT)) == lens.n_context


def test_the_prompt_is_read_once_for_all_strengths(lens: Lens) -> None:
    shapes: list[tuple[int, ...]] = []
    handle = lens.model.model.embed_tokens.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[:2])))
    generate(lens, [Row(PROMPT, s) for s in (0, 4, 8, 12)] + [Row(OTHER, 4)], DIRECTIONS, Sampling(max_tokens=1))
    handle.remove()
    longest = max(len(lens.encode(PROMPT)), len(lens.encode(OTHER)))
    assert shapes == [(2, longest - 1), (5, 1)]


def test_streams_grow_side_by_side(lens: Lens) -> None:
    short = stream(lens, [Row(PROMPT, 0)], DIRECTIONS, replace(SAMPLED, max_tokens=2))
    long = stream(lens, [Row(PROMPT, 8)], DIRECTIONS, replace(SAMPLED, max_tokens=4))
    lengths = [tuple(step.n_tokens[0] for step in steps) for steps in interleaved([short, long])]
    assert lengths == [(1, 1), (2, 2), (2, 3), (2, 4)]


def test_two_streams_on_one_model_do_not_disturb_each_other(lens: Lens) -> None:
    def other() -> Iterator[Step]:
        return stream(lens, [Row(OTHER, -6)], DIRECTIONS[:2], SAMPLED)

    *_, (first, second) = interleaved([stream(lens, [Row(PROMPT, 8)], DIRECTIONS, SAMPLED), other()])
    *_, alone = other()
    assert first.texts == [generate(lens, [Row(PROMPT, 8)], DIRECTIONS, SAMPLED)[0].text]
    assert second.texts == alone.texts


def test_an_abandoned_stream_leaves_no_hooks(lens: Lens) -> None:
    def n_hooks() -> int:
        return sum(len(module._forward_hooks) for module in lens.model.modules())

    before = n_hooks()  # transformers leaves some of its own once hidden states were asked for
    steps = stream(lens, [Row(PROMPT, 8)], DIRECTIONS, SAMPLED)
    next(steps)
    assert n_hooks() > before
    steps.close()  # type: ignore[attr-defined]
    assert n_hooks() == before


def test_the_prompting_baseline_asks_in_words(lens: Lens) -> None:
    asked = prompted(Row(PROMPT, 8, sample=2))
    assert asked.prompt.startswith("Ensure all outputs are respectful")
    assert asked.prompt.endswith(PROMPT)
    assert (asked.sigmas, asked.sample) == (0, 2)


@pytest.mark.parametrize("text", ["naïve 🎉👩‍👩‍👧 ok", " leading and  double  spaces ", "日本語\n\ttabs", "a"])
def test_words_grow_without_half_characters_or_lost_spaces(lens: Lens, text: str) -> None:
    words, seen = Words(lens), ""
    for token in lens.tokenizer(text, add_special_tokens=False)["input_ids"]:
        words.add(token)
        assert words.text.startswith(seen)
        assert "\ufffd" not in words.text
        seen = words.text
    assert seen == text


def test_words_of_any_tokens_are_what_the_tokenizer_decodes(lens: Lens) -> None:
    for seed in range(20):
        ids = torch.randint(0, 293, (40,), generator=torch.Generator().manual_seed(seed)).tolist()
        words = Words(lens)
        for token in [*ids, *lens.encode(" end")]:  # ends with whole characters, so that nothing waits
            words.add(token)
        assert words.text == lens.decode([*ids, *lens.encode(" end")])


def test_a_receipt_says_what_was_asked_and_what_arrived(lens: Lens) -> None:
    plan = Plan(n_heads=4)
    plain, strong = generate(lens, [Row(PROMPT, 0), Row(PROMPT, 8, sample=1)], DIRECTIONS, SAMPLED, plan=plan)
    receipt = strong.receipt
    assert [shift.head for shift in receipt.shifts] == sorted(d.head for d in DIRECTIONS)
    assert all(shift.requested > 0.5 for shift in receipt.shifts)
    assert 0 < receipt.worst_miss < 1e-5
    assert plain.receipt.worst_miss == 0
    assert receipt.model == lens.description
    assert (receipt.sigmas, receipt.seed, receipt.sample, receipt.positions) == (8, 3, 1, "last")
    assert Plan.from_json(receipt.plan) == plan
    assert "8 sigmas on 4 heads in 3 layers, last position" in str(receipt)
    assert receipt.to_dict()["shifts"][0]["head"] == "L0H1"


def test_a_receipt_asks_for_what_the_directions_say_layer_by_layer(lens: Lens) -> None:
    (text,) = generate(lens, [Row(PROMPT, -5)], DIRECTIONS, Sampling(max_tokens=1))
    pushed = {d.head: d.push(1.0) @ lens.W_O(d.head.layer)[d.head.index] for d in DIRECTIONS}
    for shift in text.receipt.shifts:
        own = pushed[shift.head]
        whole = sum(push for head, push in pushed.items() if head.layer == shift.head.layer)
        assert shift.requested == pytest.approx(float(-5 * whole @ own / own.norm()), rel=1e-5)


def test_a_dropped_layer_is_an_error_and_not_a_quiet_plain_text(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_layer_1(*args: object) -> dict[int, torch.Tensor]:
        found = pushes(*args)  # type: ignore[arg-type]
        del found[1]
        return found

    monkeypatch.setattr(sys.modules["steering.batch"], "pushes", without_layer_1)
    with pytest.raises(ShiftMissed, match=r"layer 1 of tiny: a shift of length .* was asked and 0 arrived"):
        generate(lens, [Row(PROMPT, 4)], DIRECTIONS, SAMPLED)


def test_steering_that_is_taken_off_on_the_way_is_an_error(lens: Lens) -> None:
    steps = stream(lens, [Row(PROMPT, 4)], DIRECTIONS, SAMPLED)
    next(steps)
    lens.model.model.layers[1].self_attn.o_proj._forward_hooks.clear()
    with pytest.raises(ShiftMissed, match="taken off"):
        next(steps)


@pytest.mark.parametrize("factor", [0.0, 0.99, -1.0, 2.0])
def test_a_push_of_the_wrong_size_is_an_error(lens: Lens, monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    monkeypatch.setattr(
        sys.modules["steering.batch"], "pushes", lambda *a: {k: factor * v for k, v in pushes(*a).items()}
    )
    with pytest.raises(ShiftMissed):
        generate(lens, [Row(PROMPT, 4)], DIRECTIONS, SAMPLED)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_receipts_hold_in_half_precision(tiny_folder: Path, dtype: str) -> None:
    lens = open_lens(str(tiny_folder), device="cpu", dtype=dtype, threads=1)
    texts = generate(lens, [Row(PROMPT, 0), Row(PROMPT, 8), Row(OTHER, 8)], DIRECTIONS, SAMPLED)
    assert all(shift.measured == pytest.approx(shift.requested, rel=0.02) for shift in texts[1].receipt.shifts)
    assert len(texts[1].tokens) > 1


def test_bad_input_is_refused_with_a_sentence(lens: Lens) -> None:
    with pytest.raises(EmptyPrompt):
        generate(lens, [Row("", 4)], DIRECTIONS, SAMPLED)
    full = " water" * (lens.n_context // len(lens.encode(" water")))
    assert len(lens.encode(full)) == lens.n_context
    with pytest.raises(ValueError, match=r"fills the context: it has 64 tokens.*Shorten it"):
        generate(lens, [Row(full, 4)], DIRECTIONS, SAMPLED)
    with pytest.raises(PromptTooLong):
        generate(lens, [Row(full * 2, 4)], DIRECTIONS, SAMPLED)
    with pytest.raises(ValueError, match="max_tokens is at most 63; got 64"):
        generate(lens, [Row(PROMPT, 4)], DIRECTIONS, Sampling(max_tokens=64))
    with pytest.raises(ValueError, match="standard deviations"):
        Row(PROMPT, float("nan"))
    with pytest.raises(ValueError, match="positions is one of"):
        generate(lens, [Row(PROMPT, 4)], DIRECTIONS, SAMPLED, positions="first")
    assert generate(lens, [], DIRECTIONS, SAMPLED) == []
