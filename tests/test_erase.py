"""Erasing: after LEACE no linear probe reads the class, of the texts it was fitted on or of others; ablation."""

from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import pytest
import torch
from concept_erasure import LeaceFitter
from marked import HELD_OUT, P, marked, marked_lens
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from lens import Head, Lens
from probes import ProbeSet, TextSet, layer_direction
from probes.fits import fit_units, null_accuracies
from probes.texts import split
from steering import Plan, Shifts, Steering, fit, hooked
from steering.methods import erase

TEXTS = marked()
TRAIN, TEST = split(TEXTS, HELD_OUT)
TOXIC = torch.from_numpy(TEXTS.labels)


@pytest.fixture(scope="module")
def lens(tmp_path_factory: pytest.TempPathFactory) -> Lens:
    return marked_lens(tmp_path_factory.mktemp("erased") / "tiny")


class States(NamedTuple):
    """What the model computes at the last token of each text."""

    heads: Tensor
    """What enters each `o_proj`, [text layer head d_head]."""
    residual: Tensor
    """What leaves each layer, [text layer d_model]."""


def read(lens: Lens, steering: Steering, strength: float) -> States:
    """All texts while the model is steered as the plan says, through hooks of our own behind those under test."""
    heads, residual = list[Tensor](), list[Tensor]()
    with ExitStack() as undo:
        undo.enter_context(hooked(lens, Shifts(lens, [steering.at(strength)]), steering.plan.positions))
        for layer in lens.model.model.layers:
            o_proj = layer.self_attn.o_proj
            undo.callback(o_proj.register_forward_pre_hook(lambda _, inputs: heads.append(inputs[0][:, -1])).remove)
            undo.callback(layer.register_forward_hook(lambda _, __, output: residual.append(output[:, -1])).remove)
        lens.plain_logits(*lens.pad([lens.encode(text.text) for text in TEXTS.texts]))
    return States(torch.stack(heads, 1).unflatten(2, (lens.grid.n_heads, -1)), torch.stack(residual, 1))


def heads_behind(steering: Steering, states: States, strength: float = 1) -> Tensor:
    """What the edited heads hand on, [text head d_head]: the fast road adds the edits behind `o_proj`."""
    found = []
    for edit in steering.edits:
        head, z = Head.parse(edit.name), states.heads[:, edit.site.layer]
        found.append((z + strength * edit.change(z.flatten(1)).view_as(z))[:, head.index])
    return torch.stack(found, dim=1)


def best_probe(x: Tensor, labels: Tensor) -> tuple[float, float]:
    """Share of these very texts that a fresh probe gets right, and the length of its weight."""
    model = LogisticRegression(tol=1e-8, max_iter=1000).fit(x.double().numpy(), labels.numpy())
    return model.score(x.double().numpy(), labels.numpy()), float(np.linalg.norm(model.coef_))


def gap(x: Tensor, labels: Tensor) -> float:
    """Distance of the two classes' means."""
    return float((x[labels].double().mean(0) - x[~labels].double().mean(0)).norm())


@pytest.mark.parametrize("positions", ["last", "all"])
def test_no_probe_of_a_layer_reads_the_class_of_fitted_texts(lens: Lens, positions: str) -> None:
    ours = fit(P("leace", positions=positions), lens, TEXTS)
    plain, erased = read(lens, ours, 0).residual[TRAIN], read(lens, ours, 1).residual[TRAIN]
    labels = TOXIC[TRAIN]
    majority = float((~labels).double().mean())
    for layer in range(lens.grid.n_layers):
        assert best_probe(plain[:, layer], labels)[0] > majority + 0.1  # there was something to erase
        assert gap(erased[:, layer], labels) < 1e-5 * gap(plain[:, layer], labels)
        share, weight = best_probe(erased[:, layer], labels)
        assert (share, weight) == (pytest.approx(majority), pytest.approx(0, abs=1e-4))


def test_no_probe_of_a_head_or_of_all_of_them_reads_the_class_of_fitted_texts(lens: Lens) -> None:
    ours = fit(P("leace", where="heads", heads=12), lens, TEXTS)
    plain, labels = read(lens, ours, 0).heads.flatten(1, 2)[TRAIN], TOXIC[TRAIN]
    erased = heads_behind(ours, read(lens, ours, 1))[TRAIN]
    majority = float((~labels).double().mean())
    assert best_probe(plain.flatten(1), labels)[0] == 1
    assert best_probe(erased.flatten(1), labels)[0] == pytest.approx(majority)
    for head in range(12):
        assert gap(erased[:, head], labels) < 1e-5 * gap(plain[:, head], labels)


def test_half_the_strength_leaves_half_the_gap(lens: Lens) -> None:
    ours = fit(P("leace", layers=(1,)), lens, TEXTS)
    gaps = [gap(read(lens, ours, strength).residual[TRAIN, 1], TOXIC[TRAIN]) for strength in (0, 0.5, 1)]
    assert gaps == pytest.approx([gaps[0], gaps[0] / 2, 0], abs=1e-4 * gaps[0])


def units(lens: Lens, ours: Steering, strength: float) -> Tensor:
    """What the edited layers or heads hand on, [text unit d]."""
    states = read(lens, ours, strength)
    return states.residual if ours.plan.site == "residual" else heads_behind(ours, states, strength)


def leaves(x: Tensor, texts: TextSet) -> list[bool]:
    """Whether a fresh probe of each unit reads more of held-out texts than the best one does with shuffled labels."""
    train, test = split(texts, HELD_OUT)
    labels = torch.from_numpy(texts.labels)
    null = null_accuracies(x, labels, train, test, 200, np.random.default_rng(0))
    band = float(np.quantile(null.max(0).values.numpy(), 0.975))
    return (fit_units(x, labels, train, test).accuracies > band).tolist()


@pytest.mark.parametrize("plan", [P("leace"), P("leace", where="heads", heads=12)], ids=["layers", "heads"])
def test_no_probe_leaves_the_null_band_on_held_out_texts(lens: Lens, plan: Plan) -> None:
    """Fitted on the texts that LEACE saw, scored on the others."""
    ours = fit(plan, lens, TEXTS)
    assert any(leaves(units(lens, ours, 0), TEXTS))
    assert not any(leaves(units(lens, ours, 1), TEXTS))


def test_no_probe_that_is_fitted_to_held_out_texts_leaves_the_null_band(lens: Lens) -> None:
    """Of layers; of a head even the plain model's fails, on so few texts."""
    ours, unseen = fit(P("leace"), lens, TEXTS), TextSet("unseen", tuple(TEXTS.texts[row] for row in TEST))
    assert any(leaves(units(lens, ours, 0)[TEST], unseen))
    assert not any(leaves(units(lens, ours, 1)[TEST], unseen))


def planted(n: int, d: int, weak: float = 0.05, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise of very unequal variance, in which the class shifts one direction."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=rng, dtype=torch.float64) * torch.logspace(0, -4, d)
    labels = torch.arange(n) % 3 == 0
    return x + weak * labels[:, None] * torch.nn.functional.normalize(torch.ones(d), dim=0), labels


@pytest.mark.parametrize(("n", "d", "weak"), [(200, 8, 1e-3), (40, 64, 1e-3), (9, 30, 1e-3), (20_000, 2, 0)])
def test_the_guarantee_holds_also_for_weak_concepts_and_few_texts(n: int, d: int, weak: float) -> None:
    x, labels = planted(n, d, weak)
    assert gap(x + erase.leace(x, labels)(x), labels) < 1e-9 * gap(x, labels)


def test_leace_is_the_library_s_own_eraser_of_rank_one() -> None:
    x, labels = planted(60, 10)
    change = erase.leace(x, labels)
    eraser = LeaceFitter.fit(x, labels.double(), constrain_cov_trace=False).eraser
    torch.testing.assert_close(x + change(x), eraser(x))
    assert change.left is not None
    assert change.left.shape == (10, 1)


def test_few_texts_do_not_throw_other_activations_far() -> None:
    """What shrinkage is for: without it, what varies where the fitted texts hardly do would be moved much farther."""
    x, labels = planted(70, 64, weak=0.5)
    others = torch.randn(500, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bare = LeaceFitter.fit(x, labels.double(), shrinkage=False, constrain_cov_trace=False).eraser
    moved, moved_bare = erase.leace(x, labels)(others).norm(), (bare(others) - others).norm()
    assert moved < moved_bare / 2


def test_ablation_leaves_nothing_along_the_direction_and_all_else(lens: Lens) -> None:
    plan = Plan("ablate", probes="marked", kind="probe-weight", layers=(0, 2))
    ours, probes = fit(plan, lens), ProbeSet.load(lens.checkpoint, "marked")
    plain, erased = read(lens, ours, 0).residual, read(lens, ours, 1).residual
    unit = layer_direction(probes, 0, "probe-weight")
    torch.testing.assert_close(erased[:, 0], plain[:, 0] - torch.outer(plain[:, 0] @ unit, unit), rtol=0, atol=1e-5)
    for layer in (0, 2):
        unit = layer_direction(probes, layer, "probe-weight")
        assert (erased[:, layer] @ unit).abs().max() < 1e-5
        assert (plain[:, layer] @ unit).abs().max() > 0.1
