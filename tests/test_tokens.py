"""The toxic end of a planted direction spells the planted words; a random one does not."""

import dataclasses

import pytest
import torch
from planted import planted, text_set

from lens import Head
from probes import Lexicon, ProbeSet, fit_probes, head_tokens, layer_tokens, single_tokens
from probes.tokens import Spread


@pytest.fixture(scope="module")
def probes() -> ProbeSet:
    texts = text_set(120)
    return fit_probes(planted(texts, layer=1), texts, "tiny")


@pytest.fixture(scope="module")
def lexicon(lens) -> Lexicon:
    """Words that the tiny vocabulary holds whole, and one that it does not."""
    whole = [lens.decode([id]).strip() for id in lens.real_tokens.nonzero()[:, 0].tolist()]
    words = sorted({word.lower() for word in whole if len(word) > 2 and word.isalpha()})
    return Lexicon.of([*words[:6], "unheardof"])


def test_words_that_are_one_token_are_counted_once_however_they_are_written(lens, lexicon):
    found = single_tokens(lens, lexicon)
    assert len(found) == len(lexicon) - 1
    for word, ids in found.items():
        assert {lens.decode([id]).strip().lower() for id in ids} == {word}


def planted_on_words(probes: ProbeSet, lens, lexicon: Lexicon) -> tuple[ProbeSet, torch.Tensor]:
    """Probes whose layer direction has the lexicon's rows of W_U at its toxic end."""
    ids = [id for ids in single_tokens(lens, lexicon).values() for id in ids]
    toward = torch.nn.functional.normalize(lens.W_U[ids].float(), dim=-1).sum(0)
    weight = probes.residual.weight.clone()
    weight[probes.best_layer] = toward
    return dataclasses.replace(probes, residual=dataclasses.replace(probes.residual, weight=weight)), toward


def test_the_toxic_end_spells_the_planted_words(probes, lens, lexicon):
    planted_probes, _ = planted_on_words(probes, lens, lexicon)
    end = layer_tokens(lens, planted_probes, lexicon, n=20)
    assert end.place == f"layer {probes.best_layer}"
    assert end.n_listed > end.random_listed.high
    assert end.rank_auc.low > 0.65
    assert end.rank_auc.value > end.random_auc.high
    assert (end.lexicon_words, end.single_tokens) == (7, 6)
    for token, listed in zip(end.nearest, end.listed, strict=True):
        assert listed == (token.text.strip() in lexicon)


def test_the_benign_end_of_the_same_direction_does_not(probes, lens, lexicon):
    planted_probes, toward = planted_on_words(probes, lens, lexicon)
    weight = planted_probes.residual.weight.clone()
    weight[probes.best_layer] = -toward
    turned = dataclasses.replace(probes, residual=dataclasses.replace(probes.residual, weight=weight))
    end = layer_tokens(lens, turned, lexicon, n=20)
    assert end.n_listed == 0
    assert end.rank_auc.value < end.random_auc.low


def test_a_head_speaks_through_its_output_matrix(probes, lens, lexicon):
    _, toward = planted_on_words(probes, lens, lexicon)
    head = Head(2, 1)
    seen = (lens.W_O(2)[1].float() @ toward).double()  # of all its directions, the one that writes most along `toward`
    benign, toxic = probes.heads.mean_benign.clone(), probes.heads.mean_toxic.clone()
    toxic[2, 1], benign[2, 1] = seen.float(), -seen.float()
    moved = dataclasses.replace(probes, heads=dataclasses.replace(probes.heads, mean_benign=benign, mean_toxic=toxic))
    end = head_tokens(lens, moved, lexicon, head, n=20)
    assert end.place == "L2H1"
    assert end.rank_auc.value > end.random_auc.high


def test_random_directions_rank_words_at_chance(probes, lens, lexicon):
    end = layer_tokens(lens, probes, lexicon, draws=400)
    assert end.random_auc.mean == pytest.approx(0.5, abs=0.03)
    assert end.random_auc.low < 0.5 < end.random_auc.high


def test_a_vocabulary_without_any_of_the_words_says_so(probes, lens):
    end = layer_tokens(lens, probes, Lexicon.of(["unheardof"]))
    assert (end.rank_auc, end.random_auc, end.single_tokens, end.n_listed) == (None, None, 0, 0)


def test_a_spread_is_the_middle_of_its_draws():
    spread = Spread.of(list(range(101)))
    assert (spread.mean, spread.low, spread.high, spread.draws) == (50, 2.5, 97.5, 101)
    assert str(spread) == "50.000 [2.500, 97.500] over 101 random directions"
