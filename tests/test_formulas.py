"""Every method moves the model by its own formula, written again in NumPy from the raw activations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch
from marked import EDITS, P, marked, marked_lens
from torch import Tensor

from lens import Activations, Head, Lens, gather
from probes import ProbeSet
from steering import Plan, Shifts, Site, Steering, fit, hooked

Passed = dict[Site, list[np.ndarray]]
"""By place, [text d]: what its edits read, and what it gave before and after them."""
RANDOM = {
    "iti, random": (P("iti", heads=3, kind="random", seed=5), 6.0),
    "caa, random": (P("caa", layers=(0, 2), kind="random", seed=5), 2.0),
    "ablate, heads, random": (P("ablate", where="heads", heads=4, kind="random", seed=5, positions="all"), 0.7),
}
PLAIN = RANDOM | {name: one for name, one in EDITS.items() if one[0].gate is None and one[0].kind == "mass-mean"}
GATED = [name for name, (plan, _) in EDITS.items() if plan.gate is not None]
TEXTS = marked()
TOXIC = TEXTS.labels


@pytest.fixture(scope="module")
def lens(tmp_path_factory: pytest.TempPathFactory) -> Lens:
    return marked_lens(tmp_path_factory.mktemp("formulas") / "tiny")


@pytest.fixture(scope="module")
def probes(lens: Lens) -> ProbeSet:
    return ProbeSet.load(lens.checkpoint, "marked")


@pytest.fixture(scope="module")
def raw(lens: Lens) -> Activations:
    return gather(lens, [text.text for text in TEXTS.texts], TOXIC.tolist(), [""] * len(TEXTS))


def passed(lens: Lens, rows: Sequence[int], steering: Steering, strength: float) -> Passed:
    """The last token of each text, one text at a time, through hooks of our own on both sides of those under test."""
    found: Passed = {}
    modules = {Site(i, "heads"): layer.self_attn.o_proj for i, layer in enumerate(lens.model.model.layers)}
    modules |= {Site(i, "residual"): layer for i, layer in enumerate(lens.model.model.layers)}

    def watch(undo: ExitStack) -> None:
        for site, module in modules.items():

            def seen(module: object, inputs: tuple[Tensor], output: Tensor, site: Site = site) -> None:
                x = inputs[0] if site.where == "heads" else output
                now[site] = [*now.get(site, [x[0, -1].double().numpy()]), output[0, -1].double().numpy()]

            undo.callback(module.register_forward_hook(seen).remove)

    with ExitStack() as undo:
        watch(undo)
        undo.enter_context(hooked(lens, Shifts(lens, [steering.at(strength)]), steering.plan.positions))
        watch(undo)
        for row in rows:
            now: Passed = {}
            lens.plain_logits(torch.tensor([lens.encode(TEXTS.texts[row].text)]))
            for site, columns in now.items():
                found.setdefault(site, []).append(np.stack([columns[0], columns[1], columns[2]]))
    return {site: list(np.stack(values, axis=1)) for site, values in found.items()}


def read_by_the_fit(lens: Lens, rows: Sequence[int], steering: Steering) -> Passed:
    """What each layer sees at strength 1, the layers before it edited; only what is fitted in sequence asks."""
    return passed(lens, rows, steering, 1.0) if steering.plan.method in ("act", "mean-act", "leace") else {}


def sorted_line(x: np.ndarray, toxic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and offset of every unit: each text repeated until both classes are equally many, sorted, fitted."""
    many, few = x[~toxic], x[toxic]
    a, b = np.repeat(np.sort(few, axis=0), len(many), axis=0), np.repeat(np.sort(many, axis=0), len(few), axis=0)
    slope, offset = np.stack([np.polyfit(a[:, i], b[:, i], 1) for i in range(x.shape[1])], axis=1)
    return slope, offset


def shrunk(x: np.ndarray) -> np.ndarray:
    """Optimal linear shrinkage towards a multiple of the identity (Bodnar et al. 2014, arXiv 1308.2608)."""
    n, d = x.shape
    covariance = np.cov(x.T, ddof=0)
    trace = np.trace(covariance)
    goal = trace**2 / d
    alpha = 1 - trace**2 * goal / n / ((covariance**2).sum() * goal - goal**2)
    return alpha * covariance + (1 - alpha) * trace / d * np.eye(d)


def by_name(seed: int, place: tuple[int, ...]) -> np.random.Generator:
    """Random numbers of a layer or a head of it: seed and name, hashed."""
    name = "L{}H{}".format(*place) if len(place) == 2 else f"layer {place[0]}"
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16, person=b"hormesis random").digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def change(
    plan: Plan, place: tuple[int, ...], x: np.ndarray, raw: np.ndarray, fitted: np.ndarray, toxic: np.ndarray
) -> np.ndarray:
    """What strength 1 adds to `x` [text d] at a layer, or at a head of it; `raw`: all texts in the plain model;
    `fitted`: what the fit read, with its labels `toxic`."""
    method, difference = plan.method, raw[~TOXIC].mean(0) - raw[TOXIC].mean(0)
    random = by_name(plan.seed, place).standard_normal(len(difference))
    along = random if plan.kind == "random" else difference
    unit = along / np.linalg.norm(along)
    if method == "iti":
        return np.broadcast_to((raw @ unit).std() * unit, x.shape)
    if method == "caa":
        return np.broadcast_to(np.linalg.norm(difference) * unit, x.shape)
    if method == "ablate":
        return -np.outer(x @ unit, unit)
    if method == "mean-act":
        return np.broadcast_to(fitted[~toxic].mean(0) - fitted[toxic].mean(0), x.shape)
    if method == "act":
        omega, beta = sorted_line(fitted, toxic)
        return omega * x + beta - x
    cross = (fitted - fitted.mean(0)).T @ (toxic - toxic.mean())
    weight = np.linalg.solve(shrunk(fitted), cross)
    return -np.outer((x - fitted.mean(0)) @ weight, cross) / (cross @ weight)


@pytest.mark.parametrize("name", PLAIN)
def test_a_method_moves_the_model_as_its_formula_says(
    lens: Lens, probes: ProbeSet, raw: Activations, name: str
) -> None:
    plan, strength = PLAIN[name]
    ours = fit(plan, lens, TEXTS)
    train = sorted(set(range(len(TEXTS))) - set(probes.test_rows))
    before = read_by_the_fit(lens, train, ours)
    for site, (x, out, edited) in passed(lens, range(0, len(TEXTS), 12), ours, strength).items():
        expected = np.zeros_like(out)
        for edit in [edit for edit in ours.edits if edit.site == site]:
            part, states, written, place = slice(None), raw.residual[:, site.layer], np.eye(lens.d_model), (site.layer,)
            if site.where == "heads":
                head, d = Head.parse(edit.name), lens.grid.d_head
                place = (head.layer, head.index)
                part, states = slice(head.index * d, (head.index + 1) * d), raw.heads[:, head.layer, head.index]
                written = lens.W_O(head.layer)[head.index].double().numpy()
            fitted = before[site][0][:, part] if before else np.empty(0)
            expected += change(plan, place, x[:, part], states.double().numpy(), fitted, TOXIC[train]) @ written
        # float32 against float64; what is subtracted has the size of the activations themselves
        atol = 1e-5 * (np.abs(expected).max() + np.abs(out).max())
        np.testing.assert_allclose(edited - out, strength * expected, rtol=0, atol=atol)
        assert (np.abs(edited - out).max() > 1e-3) == (site in {edit.site for edit in ours.edits})


@pytest.mark.parametrize("name", GATED)
def test_a_gate_opens_where_the_probe_of_its_place_says_toxic(lens: Lens, probes: ProbeSet, name: str) -> None:
    plan, strength = EDITS[name]
    ours, ungated = fit(plan, lens, TEXTS), fit(replace(plan, gate=None), lens, TEXTS)
    site, rows = min(edit.site for edit in ours.edits), range(0, len(TEXTS), 5)  # nothing before it is edited
    (x, out, edited), whole = (passed(lens, rows, one, strength)[site] for one in (ours, ungated))
    opens = []
    for edit in [edit for edit in ours.edits if edit.site == site]:
        fits, at, part = probes.residual, (site.layer,), slice(None)
        if site.where == "heads":
            index, d = Head.parse(edit.name).index, lens.grid.d_head
            fits, at, part = probes.heads, (site.layer, index), slice(index * d, (index + 1) * d)
        logits = x[:, part] @ fits.weight[at].double().numpy() + float(fits.bias[at])
        opens.append(1 / (1 + np.exp(-logits)) > plan.gate)
    moved = (edited != out).any(axis=1)
    assert (moved == np.any(opens, axis=0)).all()
    assert 0 < moved.sum() < len(moved)
    everything = np.all(opens, axis=0)
    np.testing.assert_allclose(edited[everything], whole[2][everything], rtol=0, atol=1e-5)  # in another order
