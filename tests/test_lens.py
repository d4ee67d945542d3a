"""One set of weights on two roads: both give the same logits, padded or not, and an edit leaves no trace."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
from conftest import N_ROWS, N_TOKENS, write_tiny_olmo
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torch.testing import assert_close
from transformers import DynamicCache

from lens import BrokenCheckpoint, EmptyPrompt, Head, HeadGrid, Lens, NoSuchCheckpoint, PromptTooLong, open_lens

TEXTS = ("The people next door are kind, and they water our plants.", "A small garden", "x")
ROUNDING = 2e-5
"""Logits of size 5 after three layers of float32 sums in another order: the differences seen are up to 6e-6."""


@pytest.fixture(scope="module")
def rows(lens: Lens) -> list[list[int]]:
    return [lens.encode(text) for text in TEXTS]


@pytest.mark.parametrize("road", ["logits", "plain_logits"])
def test_left_padding_does_not_change_logits(lens: Lens, rows: list[list[int]], road: str):
    logits = getattr(lens, road)
    padded = logits(*lens.pad(rows))
    for row, result in zip(rows, padded, strict=True):
        assert_close(result[-len(row) :], logits(torch.tensor([row]))[0], rtol=0, atol=ROUNDING)


def test_padding_without_its_mask_would_be_seen(lens: Lens, rows: list[list[int]]):
    tokens, mask = lens.pad(rows)
    assert (lens.plain_logits(tokens) - lens.plain_logits(tokens, mask))[1, -1].abs().max() > 0.1


def test_bridge_and_plain_model_agree(lens: Lens, rows: list[list[int]]):
    tokens, mask = lens.pad(rows)
    real = mask.bool()
    assert_close(lens.logits(tokens, mask)[real], lens.plain_logits(tokens, mask)[real], rtol=0, atol=ROUNDING)


def test_the_two_roads_share_their_weights(lens: Lens):
    lens.logits(torch.tensor([[3, 4, 5]]))
    bridge = {weight.data_ptr() for weight in lens._bridge.original_model.parameters()}
    assert bridge == {weight.data_ptr() for weight in lens.model.parameters()}


def test_the_plain_model_stays_plain_beside_a_bridge(tiny_folder: Path):
    lens = open_lens(str(tiny_folder), device="cpu", threads=1)
    tokens = torch.tensor([[3, 4, 5, 6]])
    before = lens.plain_logits(tokens)
    lens.logits(tokens)
    assert torch.equal(lens.plain_logits(tokens), before)
    assert lens.model.config._attn_implementation == "sdpa"


def test_a_bridge_first_used_amid_an_edit_of_the_plain_model_does_not_inherit_it(tiny_folder: Path, lens: Lens):
    fresh, tokens = open_lens(str(tiny_folder), device="cpu", threads=1), torch.tensor([[3, 4, 5]])
    hook = fresh.model.model.layers[0].self_attn.o_proj.register_forward_hook(lambda module, args, out: out + 1e3)
    fresh.logits(tokens)
    hook.remove()
    assert torch.equal(fresh.logits(tokens), lens.logits(tokens))


def test_a_cache_continues_where_a_prompt_ended(lens: Lens, rows: list[list[int]]):
    tokens = torch.tensor([rows[0]])
    cache = DynamicCache(config=lens.model.config)
    lens.model(tokens[:, :-1], past_key_values=cache, use_cache=True)
    last = lens.model(tokens[:, -1:], past_key_values=cache, use_cache=True).logits
    assert_close(last, lens.plain_logits(tokens)[:, -1:], rtol=0, atol=ROUNDING)


def test_an_edit_acts_inside_the_with_and_only_there(lens: Lens):
    tokens = torch.tensor([[3, 4, 5, 6]])
    plain = lens.logits(tokens)
    with lens.on_heads(1, lambda z: z):
        assert torch.equal(lens.logits(tokens), plain)
    with lens.on_heads(1, lambda z: z * 0):
        assert not torch.equal(lens.logits(tokens), plain)
    with lens.on_heads(1, lambda z: z / 0), lens.on_heads(2, lambda z: z[0]), pytest.raises(RuntimeError):
        lens.logits(tokens)
    assert torch.equal(lens.logits(tokens), plain)


def test_edits_of_several_layers_add_up(lens: Lens):
    seen: list[tuple[int, tuple[int, ...]]] = []

    def note(layer: int, z: Tensor) -> Tensor:
        seen.append((layer, tuple(z.shape)))
        return z

    with lens.on_heads(2, lambda z: note(2, z)), lens.on_heads(0, lambda z: note(0, z)):
        lens.logits(torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 11, 12]]))
    assert seen == [(0, (2, 5, 4, 6)), (2, (2, 5, 4, 6))]


def test_no_edit_on_a_layer_that_is_not_there(lens: Lens):
    with pytest.raises(ValueError, match="layers 0 to 2"):
        lens.on_heads(3, lambda z: z)


def test_w_o_writes_what_the_model_writes(lens: Lens):
    """A push at the heads, and the same push through W_O behind `o_proj`: two roads to the same logits."""
    tokens = torch.tensor([[3, 4, 5, 6, 7]])
    push = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    with lens.on_heads(1, lambda z: z + push):
        edited = lens.logits(tokens)
    written = torch.einsum("hd,hdm->m", push, lens.W_O(1))
    hook = lens.model.model.layers[1].self_attn.o_proj.register_forward_hook(lambda module, args, out: out + written)
    try:
        assert_close(lens.plain_logits(tokens), edited, rtol=0, atol=ROUNDING)
    finally:
        hook.remove()
    assert (edited - lens.plain_logits(tokens)).abs().max() > 0.1


def test_logits_are_w_u_of_the_normed_residual(lens: Lens):
    tokens = torch.tensor([[3, 4, 5, 6, 7]])
    caught: list[Tensor] = []
    hook = lens.model.model.layers[-1].register_forward_hook(lambda module, args, out: caught.append(out))
    logits = lens.plain_logits(tokens)
    hook.remove()
    assert_close(lens.final_norm(caught[0]) @ lens.W_U.T, logits, rtol=0, atol=ROUNDING)


def test_sizes_come_from_the_model(lens: Lens):
    assert lens.grid == HeadGrid(n_layers=3, n_heads=4, d_head=6)
    assert (lens.d_model, lens.n_vocab, lens.n_context, lens.eos) == (24, N_ROWS, 64, 0)
    assert lens.real_tokens.tolist() == [True] * N_TOKENS + [False] * (N_ROWS - N_TOKENS)


def test_a_text_comes_back_from_its_tokens_with_nothing_in_front(lens: Lens):
    for text in (*TEXTS, " two  spaces", "naïve café ☕"):
        assert lens.decode(lens.encode(text)) == text


def test_no_token_is_put_in_front_even_by_a_tokenizer_that_would(tiny_folder: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_folder, tmp_path / "eager")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plain = tokenizer.encode("A small garden").ids
    tokenizer.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    assert tokenizer.encode("A small garden").ids == [0, *plain]
    tokenizer.save(str(folder / "tokenizer.json"))
    assert open_lens(str(folder), device="cpu").encode("A small garden") == plain


def test_prompts_without_tokens_or_with_too_many_are_refused(lens: Lens):
    with pytest.raises(EmptyPrompt, match="at least one word"):
        lens.encode("")
    with pytest.raises(PromptTooLong, match="at most 64"):
        lens.encode("a garden " * 100)
    with pytest.raises(ValueError, match="half a character"):
        lens.encode("\ud800")
    assert len(lens.encode("z" * lens.n_context)) == lens.n_context


def test_heads_read_back_as_written(lens: Lens):
    assert [Head.parse(str(head)) for head in lens.grid] == list(lens.grid)
    assert len(lens.grid) == len(set(lens.grid)) == 12
    assert Head(2, 3) in lens.grid
    assert Head(3, 2) not in lens.grid
    with pytest.raises(ValueError, match="like L3H7"):
        Head.parse("3.7")


def test_small_models_default_to_float32_and_a_dtype_can_be_asked_for(lens: Lens, tiny_folder: Path):
    assert open_lens(str(tiny_folder), device="cpu").dtype == torch.float32
    assert open_lens(str(tiny_folder), device="cpu", dtype="bfloat16").description["dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="float32, bfloat16"):
        open_lens(str(tiny_folder), dtype="int3")


def test_both_roads_work_in_bfloat16(lens: Lens, tiny_folder: Path):
    half = open_lens(str(tiny_folder), device="cpu", dtype="bfloat16")
    tokens = torch.tensor([[3, 4, 5, 6, 7]])
    # a bfloat16 keeps 8 bits: logits of size 5 after three layers miss by up to 0.15, longer rows by 0.3
    for road in (half.logits, half.plain_logits):
        assert road(tokens).dtype == torch.bfloat16
        assert_close(road(tokens).float(), lens.plain_logits(tokens), rtol=0, atol=0.3)


def test_nonsense_devices_and_threads_are_refused(tiny_folder: Path):
    with pytest.raises(ValueError, match="auto or one of"):
        open_lens(str(tiny_folder), device="abacus")
    with pytest.raises(ValueError, match="from 1 up"):
        open_lens(str(tiny_folder), threads=0)


def test_opening_a_folder_needs_no_network(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    open_lens(str(tiny_folder), device="cpu").logits(torch.tensor([[3, 4]]))


def test_a_name_that_is_nowhere_is_refused_before_the_hub_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write_tiny_olmo(tmp_path / "checkpoints" / "demo-10")
    for name in ("demo-11", "checkpoints/demo-11"):
        with pytest.raises(NoSuchCheckpoint, match="Did you mean 'demo-10'"):
            open_lens(name)
    assert open_lens("demo-10", device="cpu").checkpoint.name == "demo-10"


def damaged(source: Path, folder: Path, **config: object) -> Path:
    """A copy of a folder with other values in its config."""
    shutil.copytree(source, folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def test_weights_that_do_not_fit_the_config_are_refused_and_never_left_random(tiny_folder: Path, tmp_path: Path):
    more_layers = damaged(tiny_folder, tmp_path / "layers", num_hidden_layers=4)
    wider = damaged(tiny_folder, tmp_path / "wider", intermediate_size=48)
    fewer = damaged(tiny_folder, tmp_path / "fewer", num_hidden_layers=2)
    for folder in (more_layers, wider, fewer):
        with pytest.raises(BrokenCheckpoint, match=f"{folder.name}/ do"):
            open_lens(str(folder), device="cpu")


def test_a_missing_tensor_is_named(tiny_folder: Path, tmp_path: Path):
    folder = damaged(tiny_folder, tmp_path / "missing")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.o_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BrokenCheckpoint, match=r"layers\.1\.self_attn\.o_proj"):
        open_lens(str(folder), device="cpu")


def test_an_end_of_text_outside_the_vocabulary_is_refused(tiny_folder: Path, tmp_path: Path):
    with pytest.raises(BrokenCheckpoint, match="eos_token_id"):
        open_lens(str(damaged(tiny_folder, tmp_path / "eos", eos_token_id=50279)), device="cpu")


def test_a_tokenizer_that_does_not_write_bytes_is_refused(tmp_path: Path):
    folder = write_tiny_olmo(tmp_path / "words")
    kept = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**kept, "decoder": None}))
    with pytest.raises(BrokenCheckpoint, match=r"tokenizer\.json does not write text byte by byte"):
        open_lens(str(folder), device="cpu")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path):
    folder = write_tiny_olmo(tmp_path / "few-rows", vocab_size=290)
    with pytest.raises(BrokenCheckpoint, match=r"tokenizer\.json has token 292, .* 290 rows"):
        open_lens(str(folder), device="cpu")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(BrokenCheckpoint, match=r"tokenizer\.json is not a tokenizer"):
        open_lens(str(folder), device="cpu")
