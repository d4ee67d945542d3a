"""What is gathered is what the bridge sees at the last token, however the texts are batched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lens import Activations, EmptyPrompt, Lens, NoActivations, activations, gather

SENTENCE = "The people next door are kind and they water our plants when we are away"
TEXTS = [SENTENCE[: 3 + number * 13 % 70] + "!" * (number % 3) for number in range(20)]
LABELS = [number % 2 == 0 for number in range(20)]
GROUPS = [str(number // 2) for number in range(20)]
ROUNDING = 1e-4
"""Activations of up to 14, float32 sums in another order through three layers: differences up to 3e-5 were seen."""


@pytest.fixture(scope="module")
def gathered(lens: Lens) -> Activations:
    return gather(lens, TEXTS, LABELS, GROUPS)


def test_no_two_axes_can_be_taken_for_each_other(gathered: Activations):
    assert gathered.heads.shape == (20, 3, 4, 6)
    assert gathered.residual.shape == (20, 3, 24)
    assert gathered.heads.dtype == gathered.residual.dtype == torch.float32
    assert not gathered.heads.is_inference()


def test_heads_are_what_the_bridge_sees_at_the_last_token(lens: Lens, gathered: Activations):
    """Another road: one text at a time, unpadded, through `hook_z` of the TransformerBridge."""
    for number, text in enumerate(TEXTS[:5]):
        for layer in range(3):
            seen: list[Tensor] = []
            with lens.on_heads(layer, lambda z, seen=seen: seen.append(z) or z):
                lens.logits(torch.tensor([lens.encode(text)]))
            assert_close(gathered.heads[number, layer], seen[0][0, -1], rtol=0, atol=ROUNDING)


def test_residual_is_what_the_model_calls_hidden_states(lens: Lens, gathered: Activations):
    for number, text in enumerate(TEXTS[:5]):
        tokens = torch.tensor([lens.encode(text)])
        states = lens.model.model(tokens, output_hidden_states=True, use_cache=False).hidden_states
        for layer in range(2):
            assert_close(gathered.residual[number, layer], states[layer + 1][0, -1], rtol=0, atol=ROUNDING)
        # the last of transformers' hidden states is already normed
        assert_close(lens.final_norm(gathered.residual[number, 2]), states[3][0, -1], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("budget", [1, 40, 100_000])
def test_batching_and_padding_do_not_change_values(
    lens: Lens, gathered: Activations, budget: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(activations, "CPU_BATCH", budget)  # one text each, a few, all together
    again = gather(lens, TEXTS, LABELS, GROUPS)
    assert_close(again.heads, gathered.heads, rtol=0, atol=ROUNDING)
    assert_close(again.residual, gathered.residual, rtol=0, atol=ROUNDING)


def test_progress_ends_at_the_number_of_texts(lens: Lens, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(activations, "CPU_BATCH", 60)
    heard: list[tuple[int, int]] = []
    gather(lens, TEXTS, LABELS, GROUPS, on_progress=lambda done, total: heard.append((done, total)))
    assert len(heard) > 3
    assert heard == sorted(heard)
    assert heard[-1] == (20, 20)


def test_a_text_longer_than_the_context_keeps_its_end(lens: Lens):
    long = "and again " * 60 + "the end"
    end = lens.decode(lens.encode_all([long])[0][-lens.n_context :])
    both = gather(lens, [long, end], [True, False], ["a", "b"])
    assert_close(both.heads[0], both.heads[1], rtol=0, atol=0)
    assert long != end
    assert both.n_cut == 1


def test_the_digest_knows_texts_labels_and_order(lens: Lens, gathered: Activations):
    assert gathered.texts_digest == activations.digest_texts(TEXTS, LABELS)
    others = [(TEXTS[::-1], LABELS), (TEXTS, [not label for label in LABELS]), (["", *TEXTS[1:]], LABELS)]
    assert gathered.texts_digest not in {activations.digest_texts(*other) for other in others}
    assert gathered.fingerprint == lens.checkpoint.fingerprint


def test_what_is_saved_comes_back(gathered: Activations, tmp_path: Path):
    gathered.save(tmp_path / "set.v1")
    back = Activations.load(tmp_path / "set.v1")
    assert torch.equal(back.heads, gathered.heads)
    assert torch.equal(back.residual, gathered.residual)
    assert torch.equal(back.labels, gathered.labels)
    assert (back.groups, back.fingerprint, back.texts_digest) == (
        gathered.groups,
        gathered.fingerprint,
        gathered.texts_digest,
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["set.v1.json", "set.v1.safetensors"]


def test_half_a_save_is_refused(lens: Lens, gathered: Activations, tmp_path: Path):
    with pytest.raises(NoActivations, match="Gather them again"):
        Activations.load(tmp_path / "nothing")
    gathered.save(tmp_path / "set")
    (tmp_path / "set.json").unlink()  # killed between the two files
    with pytest.raises(NoActivations):
        Activations.load(tmp_path / "set")
    gather(lens, TEXTS[:4], LABELS[:4], GROUPS[:4]).save(tmp_path / "other")
    (tmp_path / "other.json").rename(tmp_path / "set.json")
    with pytest.raises(NoActivations, match="different runs"):
        Activations.load(tmp_path / "set")
    (tmp_path / "set.json").write_text("[]")
    with pytest.raises(NoActivations):
        Activations.load(tmp_path / "set")


def test_texts_without_tokens_or_labels_are_refused(lens: Lens):
    with pytest.raises(EmptyPrompt, match="Text 1 "):
        gather(lens, ["fine", ""], [True, False], ["a", "b"])
    with pytest.raises(ValueError, match="needs a label"):
        gather(lens, ["fine"], [], ["a"])
    with pytest.raises(ValueError, match="0, 0 and 0"):
        gather(lens, [], [], [])
