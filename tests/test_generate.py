"""Generation: batches that change nothing, noise in common, text without broken characters, receipts that hold."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import write_tiny_olmo
from test_steering import DIRECTIONS, steering

from lens import EmptyPrompt, Lens, PromptTooLong, open_lens
from probes import Direction
from steering import (
    Generation,
    Plan,
    Row,
    Sampling,
    Steering,
    Step,
    fit,
    generate,
    interleaved,
    stream,
)
from steering.batch import Batch
from steering.dose import Dose
from steering.methods.prefix import DETOX_PROMPT, NoPrefix
from steering.sampling import gumbel, next_tokens
from steering.words import Words

PROMPT, OTHER, SHORT = "The people next door are", "A small garden needs sun, water", "T"
SAMPLED = Sampling(max_tokens=20, seed=3)
GREEDY = Sampling(temperature=0, max_tokens=20)


def row(lens: Lens, prompt: str, sigmas: float, sample: int = 0, positions: str = "last") -> Row:
    """A text steered along DIRECTIONS."""
    return Row(prompt, fitted(lens, positions).at(sigmas), sample)


@cache
def fitted(lens: Lens, positions: str = "last") -> Steering:
    return steering(lens, DIRECTIONS, positions)


def tokens(texts: Sequence[Generation]) -> list[tuple[int, ...]]:
    return [text.tokens for text in texts]


def by_the_reference(lens: Lens, row: Row, sampling: Sampling) -> tuple[int, ...]:
    """The slow road: the whole text so far through the bridge for every token, no cache, each head edited in place."""
    prompt = lens.encode(row.prompt)
    written: list[int] = []
    (dose,) = row.doses
    first = 0 if dose.everywhere else len(prompt) - 1

    def edit(z: torch.Tensor, direction: Direction) -> torch.Tensor:
        pushed = z.clone()
        pushed[:, first:, direction.head.index] += direction.push(dose.strength)
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
    texts = (PROMPT, 0, 0), (PROMPT, 4, 0), (OTHER, 8, 0), (SHORT, -3, 1)
    rows = [row(lens, *text, positions) for text in texts]
    assert tokens(generate(lens, rows, sampling)) == [by_the_reference(lens, one, sampling) for one in rows]


def test_rows_of_different_rules_and_plans_go_together(lens: Lens) -> None:
    texts = (PROMPT, 4, 0, "last"), (PROMPT, 4, 0, "all"), (PROMPT, 8, 0, "all"), (OTHER, 0, 0, "all")
    rows = [row(lens, *text) for text in texts] + [Row(PROMPT), Row(OTHER)]
    together = generate(lens, rows, SAMPLED)
    assert tokens(together[:4]) == [by_the_reference(lens, one, SAMPLED) for one in rows[:4]]
    assert len(set(tokens(together))) == 5  # the plain texts on one prompt are equal
    assert together[3].tokens == together[5].tokens


def test_both_roads_write_the_same_64_tokens(tmp_path: Path) -> None:
    lens = open_lens(str(write_tiny_olmo(tmp_path / "long", max_position_embeddings=128)), device="cpu", threads=1)
    sampling = Sampling(max_tokens=64, seed=1)
    (fast,) = generate(lens, [row(lens, PROMPT, 6)], sampling)
    assert fast.tokens == by_the_reference(lens, row(lens, PROMPT, 6), sampling)
    assert len(fast.tokens) == 64
    (plain,) = generate(lens, [Row(PROMPT)], sampling)
    assert plain.tokens != fast.tokens


def test_rows_write_the_same_alone_and_in_a_batch(lens: Lens) -> None:
    for positions in ("last", "all"):
        kinds = [(p, s, k, positions) for p in (PROMPT, OTHER, SHORT) for s in (0.0, 8.0) for k in (0, 1)]
        rows = [row(lens, *kind) for kind in kinds]
        together = generate(lens, rows, SAMPLED)
        alone = [generate(lens, [one], SAMPLED)[0] for one in rows]
        assert tokens(together) == tokens(alone)
        assert [one.text for one in together] == [one.text for one in alone]


def test_strength_0_writes_what_the_plain_model_writes(lens: Lens) -> None:
    steered, plain = [row(lens, PROMPT, 0), row(lens, OTHER, 0)], [Row(PROMPT), Row(OTHER)]
    assert tokens(generate(lens, steered, SAMPLED)) == tokens(generate(lens, plain, SAMPLED))


def test_greedy_text_is_hugging_face_s(lens: Lens) -> None:
    (ours,) = generate(lens, [Row(PROMPT)], GREEDY)
    prompt = torch.tensor([lens.encode(PROMPT)])
    unreal = [[int(i)] for i in (~lens.real_tokens).nonzero()]
    theirs = lens.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, do_sample=False, bad_words_ids=unreal
    )
    assert list(ours.tokens) == [t for t in theirs[0, prompt.shape[1] :].tolist() if t != lens.eos]


def test_the_noise_does_not_know_the_strength(lens: Lens) -> None:
    """Where steering changes no distribution, it changes no word: a push of almost nothing gives the same text."""
    almost = generate(lens, [row(lens, PROMPT, 1e-6), Row(PROMPT)], SAMPLED)
    assert almost[0].tokens == almost[1].tokens
    samples = generate(lens, [Row(PROMPT, (), sample) for sample in range(4)], SAMPLED)
    assert len(set(tokens(samples))) == 4
    again = generate(lens, [Row(PROMPT)], replace(SAMPLED, seed=4))
    assert again[0].tokens != samples[0].tokens


def test_a_stream_grows_by_a_token_and_ends_where_generate_ends(lens: Lens) -> None:
    rows = [Row(PROMPT), row(lens, OTHER, 8), row(lens, SHORT, 8)]
    steps = list(stream(lens, rows, SAMPLED))
    whole = generate(lens, rows, SAMPLED)
    assert [step.n_tokens[0] for step in steps] == list(range(1, 21))
    assert steps[-1].texts == [text.text for text in whole]
    assert steps[-1].done == [True, True, True]
    assert not any(steps[0].done)
    for earlier, later in pairwise(steps):
        assert all(new.startswith(old) for old, new in zip(earlier.texts, later.texts, strict=True))


def test_the_model_is_plain_while_a_stream_is_looked_at(lens: Lens) -> None:
    ids = torch.tensor([lens.encode(PROMPT)])
    plain = lens.plain_logits(ids)
    for _step in stream(lens, [row(lens, PROMPT, 12)], SAMPLED):
        assert torch.equal(lens.plain_logits(ids), plain)


def test_stop_works_within_a_token(lens: Lens) -> None:
    stop = threading.Event()
    seen = 0
    for step in stream(lens, [row(lens, PROMPT, 4)], SAMPLED, stop=stop):
        seen = step.n_tokens[0]
        if seen == 3:
            stop.set()
    assert seen == 3
    assert generate(lens, [row(lens, PROMPT, 4)], SAMPLED, stop=stop)[0].tokens == ()


def test_rows_end_at_the_end_of_text_and_the_others_go_on(lens: Lens, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Row(PROMPT, (), sample) for sample in range(12)]
    unending = generate(lens, rows, SAMPLED)
    end = unending[0].tokens[5]
    monkeypatch.setattr(lens, "end_tokens", frozenset({end}))
    expected = [one.tokens[: one.tokens.index(end)] if end in one.tokens else one.tokens for one in unending]
    assert tokens(generate(lens, rows, SAMPLED)) == expected
    assert tokens(generate(lens, [rows[0]], SAMPLED)) == expected[:1]


def test_finished_rows_of_a_large_batch_are_no_longer_computed(lens: Lens) -> None:
    long = " water" * (58 // len(lens.encode(" water")))
    left = lens.n_context - len(lens.encode(long))
    rows = [row(lens, long, 4, sample) for sample in range(9)] + [row(lens, SHORT, 4)]
    sizes = []
    embed = lens.model.model.embed_tokens
    handle = embed.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[:2]))
    together = generate(lens, rows, replace(SAMPLED, max_tokens=20))
    handle.remove()
    assert [len(one.tokens) for one in together] == [left] * 9 + [20]
    assert sizes[1:] == [(10, 1)] * left + [(1, 1)] * (20 - left)  # behind the prompts
    assert together[-1].tokens == generate(lens, rows[-1:], replace(SAMPLED, max_tokens=20))[0].tokens


def test_the_context_is_filled_and_no_further(lens: Lens) -> None:
    (text,) = generate(lens, [Row(PROMPT)], Sampling(max_tokens=63))
    assert len(text.tokens) + len(lens.encode(PROMPT)) == lens.n_context


def test_the_prompt_is_read_once_for_all_strengths(lens: Lens) -> None:
    shapes: list[tuple[int, ...]] = []
    handle = lens.model.model.embed_tokens.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape[:2])))
    generate(lens, [row(lens, PROMPT, s) for s in (0, 4, 8, 12)] + [row(lens, OTHER, 4)], Sampling(max_tokens=1))
    handle.remove()
    longest = max(len(lens.encode(PROMPT)), len(lens.encode(OTHER)))
    assert shapes == [(2, longest - 1), (5, 1)]


def test_streams_grow_side_by_side(lens: Lens) -> None:
    short = stream(lens, [Row(PROMPT)], replace(SAMPLED, max_tokens=2))
    long = stream(lens, [row(lens, PROMPT, 8)], replace(SAMPLED, max_tokens=4))
    lengths = [tuple(step.n_tokens[0] for step in steps if step) for steps in interleaved([short, long])]
    assert lengths == [(1, 1), (2, 2), (2, 3), (2, 4)]


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_stream_without_a_step_keeps_its_place(lens: Lens, empty: int) -> None:
    rows = [[Row(PROMPT)], [Row(OTHER)], [Row(SHORT)]]
    rows[empty] = []
    found = list(interleaved([stream(lens, some, replace(SAMPLED, max_tokens=3)) for some in rows]))
    assert found
    for steps in found:
        assert [step is None for step in steps] == [place == empty for place in range(3)]
    written = {place: step.texts for place, step in enumerate(found[-1]) if step}
    for place, texts in written.items():
        assert texts == [generate(lens, rows[place], replace(SAMPLED, max_tokens=3))[0].text]
    assert list(interleaved([stream(lens, [], SAMPLED)])) == []


def test_two_streams_on_one_model_do_not_disturb_each_other(lens: Lens) -> None:
    def other() -> Iterator[Step]:
        return stream(lens, [row(lens, OTHER, -6)], SAMPLED)

    *_, (first, second) = interleaved([stream(lens, [row(lens, PROMPT, 8)], SAMPLED), other()])
    *_, alone = other()
    assert first
    assert second
    assert first.texts == [generate(lens, [row(lens, PROMPT, 8)], SAMPLED)[0].text]
    assert second.texts == alone.texts


def test_no_hook_is_hung_up(lens: Lens) -> None:
    def n_hooks() -> int:
        return sum(len(module._forward_hooks) for module in lens.model.modules())

    before = n_hooks()  # transformers leaves some of its own once hidden states were asked for
    next(stream(lens, [row(lens, PROMPT, 8), row(lens, PROMPT, 8, positions="all")], SAMPLED))
    assert n_hooks() == before


def test_prompting_asks_in_words_and_draws_the_same_chance(lens: Lens) -> None:
    asked = fit(Plan("prompting"), lens)
    rows = [Row("T", asked.at(0)), Row("T"), Row("T", asked.at(1))]
    assert rows[2].read == DETOX_PROMPT + "T"
    wide = Sampling(temperature=2, top_p=1, max_tokens=4)
    off, plain = generate(lens, rows[:2], wide)
    assert off.tokens == plain.tokens
    batch = Batch(lens, [Row("T"), replace(rows[2], doses=(Dose(replace(asked, prefix="A "), 1),))], wide)
    assert torch.equal(batch._noise(), gumbel(0, lens.encode("T"), 0, 0, lens.n_vocab)[None])
    with pytest.raises(PromptTooLong):
        generate(lens, rows, wide)  # 64 tokens of context are too few for the paper's instruction


def test_a_prefix_is_the_one_of_training_or_refused(lens: Lens) -> None:
    with pytest.raises(NoPrefix, match="tiny was not trained with prefixes"):
        fit(Plan("prefix"), lens)
    card = {"mix": {"prefixes": {"control": "Toxicity: 0.00\n"}}}
    trained = Lens(replace(lens.checkpoint, card=card), lens.model, lens.tokenizer)
    assert Row("T", fit(Plan("prefix"), trained).at(1)).read == "Toxicity: 0.00\nT"


@pytest.mark.parametrize("text", ["naïve 🎉👩‍👩‍👧 ok", " leading and  double  spaces ", "日本語\n\ttabs", "a"])
def test_words_grow_without_half_characters_or_lost_spaces(lens: Lens, text: str) -> None:
    words, seen = Words(lens), ""
    for token in lens.tokenizer(text, add_special_tokens=False)["input_ids"]:
        words.tokens.append(token)
        assert words.text.startswith(seen)
        assert "\ufffd" not in words.text
        seen = words.text
    assert seen == text


def test_words_of_any_tokens_are_what_the_tokenizer_decodes(lens: Lens) -> None:
    for seed in range(20):
        ids = torch.randint(0, 293, (40,), generator=torch.Generator().manual_seed(seed)).tolist()
        words = Words(lens)
        for token in [*ids, *lens.encode(" end")]:  # ends with whole characters, so that nothing waits
            words.tokens.append(token)
            if token % 3 == 0:
                assert words.text  # however much is read at once
        assert words.text == lens.decode([*ids, *lens.encode(" end")])


def test_bad_input_is_refused_with_a_sentence(lens: Lens) -> None:
    with pytest.raises(EmptyPrompt):
        generate(lens, [row(lens, "", 4)], SAMPLED)
    full = " water" * (lens.n_context // len(lens.encode(" water")))
    assert len(lens.encode(full)) == lens.n_context
    with pytest.raises(ValueError, match=r"fills the context: it has 64 tokens.*Shorten it"):
        generate(lens, [row(lens, full, 4)], SAMPLED)
    with pytest.raises(PromptTooLong):
        generate(lens, [row(lens, full * 2, 4)], SAMPLED)
    with pytest.raises(ValueError, match="max_tokens is at most 63; got 64"):
        generate(lens, [row(lens, PROMPT, 4)], Sampling(max_tokens=64))
    assert generate(lens, [], SAMPLED) == []
