"""A probe finds what is there, and nothing where nothing is."""

import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import GRID, line, planted, text_set
from sklearn.linear_model import LogisticRegression

from lens import Checkpoint, Head
from probes import BrokenProbes, NoProbes, ProbeSet, StaleProbes, compare, fit_probes, probe_checkpoint, saved, split
from probes.__main__ import move
from probes.differences import middle_95
from probes.estimate import wilson
from probes.fits import fit_one, fit_units, newton, null_accuracies, shuffles
from probes.move import move_fingerprints
from probes.probe import N_SHUFFLES
from probes.store import read, write

PLANTED = Head(1, 2)


@pytest.fixture(scope="module")
def found() -> ProbeSet:
    texts = text_set()
    return fit_probes(planted(texts, PLANTED, layer=2), texts, "made-up")


@pytest.fixture(scope="module")
def nothing() -> ProbeSet:
    texts = text_set()
    return fit_probes(planted(texts), texts, "made-up")


def test_a_probe_finds_the_planted_head_and_no_other(found):
    assert found.ranked()[0] == PLANTED
    assert found.accuracy(PLANTED).low > 0.9
    assert all(found.accuracy(head).low < 0.6 for head in found.grid if head != PLANTED)
    assert found.accuracy(PLANTED).value > found.null_band[1]


def test_a_probe_finds_the_planted_layer_and_no_other(found):
    assert found.best_layer == 2
    assert found.layer_accuracy(2).low > 0.9
    assert all(found.layer_accuracy(layer).low < 0.6 for layer in (0, 1))


def test_where_nothing_is_planted_the_best_head_stays_within_the_null_band():
    inside = 0
    for seed in range(10):
        texts = text_set(seed=seed)
        probes = fit_probes(planted(texts, seed=seed), texts, "made-up", seed=seed)
        inside += probes.accuracy(probes.ranked()[0]).value <= probes.null_band[1]
    assert inside >= 8  # 97.5 % of the time


def test_the_best_of_many_null_heads_beats_the_majority(nothing):
    assert nothing.null_band[0] > nothing.majority  # so a map without the band would lie


def test_the_upper_end_of_the_null_band_does_not_hang_on_the_seed():
    """64 heads, 500 held-out texts: 20 shuffles put it anywhere within 0.05, the usual number within 0.002."""
    rng = np.random.default_rng(0)
    states, labels = torch.from_numpy(rng.normal(size=(1000, 64, 3))), torch.from_numpy(rng.random(1000) < 0.4)
    train, test = np.arange(500), np.arange(500, 1000)

    def upper_end(n_shuffles: int, seed: int) -> float:
        null = null_accuracies(states, labels, train, test, n_shuffles, np.random.default_rng(seed))
        return middle_95(null.max(0).values.numpy())[1]

    settled = upper_end(4 * N_SHUFFLES, 99)
    assert all(abs(upper_end(N_SHUFFLES, seed) - settled) <= 0.002 + 1e-9 for seed in range(2))
    assert max(abs(upper_end(20, seed) - settled) for seed in range(10)) > 0.005


def test_the_card_says_how_often_labels_were_shuffled(checkpoint):
    texts = text_set(120)
    made = fit_probes(planted(texts), texts, "made-up", n_shuffles=50)
    made.save(checkpoint.folder)
    assert json.loads((checkpoint.folder / "probes" / "planted.json").read_text())["n_shuffles"] == 50
    assert (made.n_shuffles, len(made.null_best)) == (50, 50)
    with pytest.raises(ValueError, match="needs 40 of them; got 20"):
        fit_probes(planted(texts), texts, "made-up", n_shuffles=20)


def test_texts_that_come_in_pairs_count_as_pairs_and_groups_as_groups():
    """Both texts of a pair have the same activations, so a pair is worth one text."""
    texts = text_set(400)
    twice = dataclasses.replace(
        texts, texts=tuple(dataclasses.replace(text, pair=str(row // 2)) for row, text in enumerate(texts.texts))
    )
    alone, paired = (fit_probes(planted(one, PLANTED, strength=1), one, "made-up") for one in (texts, twice))
    assert alone.test_clusters != paired.test_clusters
    assert len(set(alone.test_clusters)) == alone.n_test == 2 * len(set(paired.test_clusters))
    alike = np.repeat(np.random.default_rng(0).random(40) < 0.8, 2)
    correct = torch.from_numpy(alike).expand(*paired.heads.correct.shape).clone()
    same = [
        dataclasses.replace(one, heads=dataclasses.replace(one.heads, correct=correct[..., : one.n_test]))
        for one in (alone, dataclasses.replace(paired, test_clusters=tuple((np.arange(80) // 2).tolist())))
    ]
    narrow, wide = (one.accuracy(PLANTED) for one in same)
    assert narrow == wilson(int(alike.sum()), 80)
    assert wide.high - wide.low == pytest.approx(np.sqrt(2) * (narrow.high - narrow.low), rel=0.15)
    one, other = (probes.mean_accuracy(np.random.default_rng(0)) for probes in same)
    assert other.high - other.low == pytest.approx(np.sqrt(2) * (one.high - one.low), rel=0.1)
    by_group = fit_probes(planted(texts, PLANTED), texts, "made-up", by="group", held_out=0.4)
    assert len(set(by_group.test_clusters)) == 2
    assert by_group.accuracy(Head(0, 0)).low < 0.2  # two groups say little of others


def test_a_card_from_before_clusters_were_kept_takes_texts_as_independent(found, checkpoint):
    path = dataclasses.replace(found, fingerprint=checkpoint.fingerprint).save(checkpoint.folder)
    card, tensors = read(path)
    del card["test_clusters"], card["n_shuffles"]
    write(path, card, tensors)
    old = ProbeSet.load(checkpoint, "planted")
    assert old.accuracy(PLANTED) == wilson(int(old.heads.correct[PLANTED.layer, PLANTED.index].sum()), old.n_test)
    assert old.n_shuffles == len(found.null_best)


def test_a_strong_head_does_not_lift_the_null_band(found, nothing):
    assert abs(found.null_band[1] - nothing.null_band[1]) < 0.1


def test_the_weight_points_to_the_positive_class_along_the_planted_line(found):
    weight = found.heads.weight[PLANTED.layer, PLANTED.index].double().numpy()
    assert weight @ line(GRID.d_head) > 0.5 * np.linalg.norm(weight)


def ill_conditioned(n: int = 300, d: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Features of very different scale, strongly correlated, far from zero."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * 10.0 ** np.linspace(-3, 1.5, d) + 5
    return x, rng.random(n) < 1 / (1 + np.exp(-(x[:, -1] - 5) / 20))


def test_newton_in_torch_reaches_the_optimum_of_scikit_learn():
    x, y = ill_conditioned()
    others = np.random.default_rng(1).normal(size=x.shape)
    weight, bias = newton(torch.from_numpy(np.stack([x, others])), torch.from_numpy(y))
    for unit, features in enumerate((x, others)):
        one, offset = fit_one(features, y)
        np.testing.assert_allclose(weight[unit], one, rtol=1e-4, atol=1e-6)  # both stop at a slope of 1e-8
        assert bias[unit] == pytest.approx(offset, rel=1e-4, abs=1e-6)


def test_newton_survives_classes_without_overlap():
    x = np.concatenate([np.full((20, 1), -30.0), np.full((20, 1), 30.0)]) + np.random.default_rng(0).normal(
        size=(40, 1)
    )
    y = x[:, 0] > 0
    weight, _ = newton(torch.from_numpy(x[None]), torch.from_numpy(y))
    assert weight.item() == pytest.approx(fit_one(x, y)[0].item(), rel=1e-4)


def test_newton_shortens_a_step_that_overshoots():
    rng = np.random.default_rng(1)
    x = rng.standard_cauchy(size=(40, 2)) * 10.0 ** rng.integers(-1, 3)  # one value beyond 100,000
    y = rng.random(40) < 1 / (1 + np.exp(-np.clip(x[:, 0] + rng.normal(size=40), -50, 50)))
    weight, _ = newton(torch.from_numpy(x[None]), torch.from_numpy(y))  # whole steps end in a singular Hessian
    np.testing.assert_allclose(weight[0], fit_one(x, y)[0], rtol=1e-4, atol=1e-8)


def test_the_fit_is_the_optimum_and_not_on_the_way_there():
    x, y = ill_conditioned()
    weight, bias = fit_one(x, y)

    def loss(w: np.ndarray, b: float) -> float:
        return np.logaddexp(0, -(2 * y - 1) * (x @ w + b)).sum() + w @ w / 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        usual = LogisticRegression(max_iter=1000).fit(x, y)
    assert loss(weight, bias) <= loss(usual.coef_[0], usual.intercept_[0])
    rng = np.random.default_rng(2)
    assert all(loss(weight + 1e-3 * rng.normal(size=7), bias) > loss(weight, bias) for _ in range(20))


def test_both_roads_fit_the_same_probes(found, monkeypatch):
    texts = text_set()
    activations, (train, test) = planted(texts, PLANTED), split(texts)
    states = activations.heads.flatten(1, 2)
    one = fit_units(states, activations.labels, train, test)
    monkeypatch.setattr("probes.fits.sklearn_road", __import__("probes.fits").fits.batched_road)
    other = fit_units(states, activations.labels, train, test)
    torch.testing.assert_close(one.weight, other.weight, rtol=1e-4, atol=1e-5)
    assert (one.correct == other.correct).float().mean() > 0.999


def test_one_step_from_the_constant_guess_is_the_null_of_full_fits():
    texts = text_set(600, share=0.4)
    activations, (train, test) = planted(texts, PLANTED), split(texts)
    states = activations.heads.flatten(1, 2)
    cheap = null_accuracies(states, activations.labels, train, test, 12, np.random.default_rng(5)).numpy()
    rng, full = np.random.default_rng(5), np.empty_like(cheap)
    y, truth = (shuffles(activations.labels[rows], 12, rng).numpy() for rows in (train, test))
    for unit in range(len(full)):
        x = states[:, unit].double().numpy()
        for shuffle in range(12):
            weight, bias = fit_one(x[train], y[:, shuffle])
            full[unit, shuffle] = np.mean((x[test] @ weight + bias > 0) == truth[:, shuffle])
    assert np.abs(cheap - full).max() <= 2 / len(test)  # a text or two on the border
    assert np.abs(cheap.max(0) - full.max(0)).mean() < 0.005


def test_moments_are_those_of_all_texts(found):
    texts = text_set()
    z = planted(texts, PLANTED).heads[:, 1, 2].double().numpy()
    np.testing.assert_allclose(found.heads.mean_toxic[1, 2], z[texts.labels].mean(0), atol=1e-6)
    np.testing.assert_allclose(found.heads.mean_benign[1, 2], z[~texts.labels].mean(0), atol=1e-6)
    np.testing.assert_allclose(found.heads.covariance[1, 2], np.cov(z.T, ddof=0), atol=1e-5)


def test_progress_counts_every_head_and_layer():
    heard: list[tuple[int, int]] = []
    texts = text_set(60)
    fit_probes(planted(texts), texts, "made-up", on_progress=lambda done, total: heard.append((done, total)))
    assert heard == [(done, 15) for done in range(1, 16)]


def test_activations_of_other_texts_are_refused():
    with pytest.raises(ValueError, match="other texts or labels"):
        fit_probes(planted(text_set(seed=1)), text_set(seed=2), "made-up")


def test_activations_that_are_not_numbers_are_refused():
    texts = text_set(60)
    activations = planted(texts)
    activations.heads[3, 1, 1, 0] = torch.nan
    with pytest.raises(ValueError, match="not numbers"):
        fit_probes(activations, texts, "made-up")


def owned(probes: ProbeSet, checkpoint: Checkpoint) -> ProbeSet:
    return dataclasses.replace(probes, fingerprint=checkpoint.fingerprint)


@pytest.fixture
def checkpoint(tiny_folder, tmp_path) -> Checkpoint:
    """A copy of the tiny checkpoint to write into."""
    for file in tiny_folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    return Checkpoint.open(tmp_path)


def test_a_probe_set_comes_back_from_disk_as_it_was(found, checkpoint):
    mine = dataclasses.replace(owned(found, checkpoint), checkpoint=checkpoint.name)
    assert mine.save(checkpoint.folder) == checkpoint.folder / "probes" / "planted.json"
    back = ProbeSet.load(checkpoint, "planted")
    for field in dataclasses.fields(ProbeSet):
        before, after = getattr(mine, field.name), getattr(back, field.name)
        if field.name in ("heads", "residual"):
            for part in dataclasses.fields(before):
                assert torch.equal(getattr(before, part.name), getattr(after, part.name)), part.name
        else:
            assert torch.equal(before, after) if field.name == "null_best" else before == after, field.name
    assert saved(checkpoint) == ["planted"]


def test_probes_of_other_weights_are_refused_with_the_command_that_mends_it(found, checkpoint):
    found.save(checkpoint.folder)
    with pytest.raises(StaleProbes, match="python -m probes fit"):
        ProbeSet.load(checkpoint, "planted")


def test_probes_with_the_fingerprint_of_the_weights_alone_are_moved_by_a_command(found, checkpoint, capsys):
    before = dataclasses.replace(found, fingerprint=checkpoint.weights_fingerprint)
    before.save(checkpoint.folder)
    dataclasses.replace(found, name="foreign").save(checkpoint.folder)
    with pytest.raises(StaleProbes, match=f"python -m probes move {checkpoint.folder}"):
        ProbeSet.load(checkpoint, "planted")
    move((str(checkpoint.folder),))
    assert "1 moved, 0 had" in (said := capsys.readouterr().out)
    assert "foreign.json was fitted to other weights" in said
    assert torch.equal(ProbeSet.load(checkpoint, "planted").heads.weight, found.heads.weight)
    with pytest.raises(StaleProbes, match="another config or another tokenizer"):
        ProbeSet.load(checkpoint, "foreign")
    move((str(checkpoint.folder),))
    assert "0 moved, 1 had" in capsys.readouterr().out


def test_probes_are_not_moved_to_a_tokenizer_that_the_card_does_not_name(found, checkpoint):
    dataclasses.replace(found, fingerprint=checkpoint.weights_fingerprint).save(checkpoint.folder)
    (checkpoint.folder / "checkpoint.json").write_text(json.dumps({"tokenizer_sha256": "0" * 64}))
    with pytest.raises(StaleProbes, match=r"tokenizer of .* differ"):
        move_fingerprints(Checkpoint.open(checkpoint.folder))


def test_missing_and_damaged_probes_say_what_to_do(found, checkpoint):
    with pytest.raises(NoProbes, match=r"python -m probes fit .* --texts builtin"):
        ProbeSet.load(checkpoint, "builtin")
    with pytest.raises(NoProbes, match=r"--texts FILE --name style --by group$"):
        ProbeSet.load(checkpoint, "style-by-group")
    owned(found, checkpoint).save(checkpoint.folder)
    tensors = checkpoint.folder / "probes" / "planted.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(BrokenProbes, match=r"planted\.json"):
        ProbeSet.load(checkpoint, "planted")


def test_a_kill_between_the_two_files_leaves_a_whole_set(found, checkpoint, monkeypatch):
    old = owned(found, checkpoint)
    old.save(checkpoint.folder)
    new = dataclasses.replace(old, seed=7)
    first_only = __import__("probes.store").store.write_atomically

    def killed(path: Path, data: bytes | str) -> None:
        if path.suffix == ".json":
            raise KeyboardInterrupt
        first_only(path, data)

    monkeypatch.setattr("probes.store.write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        new.save(checkpoint.folder)
    assert json.loads((checkpoint.folder / "probes" / "planted.json").read_text())["seed"] == 0
    assert ProbeSet.load(checkpoint, "planted").seed == 7


def test_a_clearer_checkpoint_is_told_from_a_vaguer_one(nothing):
    texts = text_set()
    clear, vague = (fit_probes(planted(texts, PLANTED, strength=s), texts, "made-up") for s in (4.0, 0.5))
    comparison = compare(clear, vague, np.random.default_rng(0))
    expected = float(clear.heads.accuracies.mean() - vague.heads.accuracies.mean())
    assert comparison.over_texts.estimate.value == pytest.approx(expected) == comparison.by_head.estimate.value
    assert comparison.over_texts.estimate.low > 0
    assert comparison.over_texts.estimate.n == clear.n_test
    assert comparison.by_head.estimate.n == len(clear.grid)
    backwards = compare(vague, clear, np.random.default_rng(0))
    assert backwards.over_texts.estimate.value == pytest.approx(-expected)


def test_a_checkpoint_does_not_differ_from_itself(found):
    same = compare(found, found, np.random.default_rng(0))
    assert same.over_texts.p == same.by_head.p == 1


def test_different_held_out_texts_are_not_compared(found):
    texts = text_set()
    other = fit_probes(planted(texts), texts, "made-up", seed=3)
    with pytest.raises(ValueError, match="different held-out texts"):
        compare(found, other, np.random.default_rng(0))


def test_the_mean_over_heads_has_an_interval(found):
    mean = found.mean_accuracy(np.random.default_rng(0))
    assert mean.value == pytest.approx(float(found.heads.accuracies.mean()))
    assert mean.low < mean.value < mean.high


def test_a_real_model_is_probed_from_texts_to_file(lens, checkpoint):
    from lens import open_lens

    texts = text_set(60, classes=("formal", "casual"))
    stages: set[str] = set()
    own = open_lens(checkpoint, device="cpu", dtype="float32")
    probes = probe_checkpoint(own, texts, by="group", on_progress=lambda stage, done, total: stages.add(stage))
    assert stages == {"reading", "fitting"}
    assert ProbeSet.load(checkpoint, "planted-by-group").classes == ("formal", "casual")
    assert probes.heads.weight.shape == (3, 4, 6)
    assert probes.n_test == 12
