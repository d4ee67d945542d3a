"""Probes on texts that they never saw: nothing is chosen on what is judged; pairs and styles are what they say."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from evaluation.commands.transfer import transfer
from evaluation.results import Results
from evaluation.transfer import compare, detect, others, some_of, two_styles
from evaluation.unit import Subject
from lens import Head, Lens, gather, open_lens
from lens.bench import Bench
from lens.table_reader import open_table
from probes import BadTexts, LabelledText, ProbeSet, StaleProbes, TextSet, builtin
from steering.options import Machine

OWN = TextSet("builtin", builtin().texts[:120])
"""What the probes of the bench were fitted to."""
OTHER = TextSet("other", builtin().texts[200:280])


@pytest.fixture(scope="module")
def fitted(bench: Bench) -> tuple[Lens, ProbeSet]:
    lens = open_lens(bench.checkpoint("tiny-a"), device="cpu", dtype="float32", threads=1)
    return lens, ProbeSet.load(lens.checkpoint, "builtin")


def logits(lens: Lens, probes: ProbeSet, texts: TextSet, head: Head) -> np.ndarray:
    """One head's probe, text by text."""
    found = gather(lens, [one.text for one in texts.texts], [True] * len(texts), [""] * len(texts))
    weight, bias = (part[head.layer, head.index] for part in (probes.heads.weight, probes.heads.bias))
    return (found.heads[:, head.layer, head.index] @ weight + bias).numpy()


def test_of_the_probes_own_set_the_held_out_texts_are_judged_as_they_were_when_fitted(
    fitted: tuple[Lens, ProbeSet],
) -> None:
    lens, probes = fitted
    found = detect(lens, probes, OWN)
    assert found.texts == tuple(OWN.texts[row] for row in probes.test_rows)
    assert found.correct.tolist() == probes.heads.correct[found.head.layer, found.head.index].tolist()
    assert found.accuracy.value == probes.accuracy(found.head).value
    assert found.mean_accuracy.value == pytest.approx(probes.mean_accuracy(np.random.default_rng(0)).value)


def test_the_head_is_chosen_on_texts_that_are_not_judged(fitted: tuple[Lens, ProbeSet]) -> None:
    lens, probes = fitted
    train = np.array(others(OWN, probes.test_rows))
    assert not {OWN.texts[row].text for row in train} & {OWN.texts[row].text for row in probes.test_rows}
    assert not {OWN.texts[row].pair for row in train} & {OWN.texts[row].pair for row in probes.test_rows}
    right = [((logits(lens, probes, OWN, head) > 0) == OWN.labels)[train].mean() for head in probes.grid]
    assert right[list(probes.grid).index(detect(lens, probes, OWN).head)] == max(right)
    chosen, best = Head(1, 2), detect(lens, probes, OWN).head
    says = logits(lens, probes, OWN, chosen) > 0
    texts = list(OWN.texts)
    for row in probes.test_rows:  # as if that head were best on the texts that are judged
        texts[row] = replace(texts[row], label=bool(says[row]))
    followed = replace(OWN, texts=tuple(texts))
    assert detect(lens, replace(probes, texts_digest=followed.digest), followed).head == best != chosen
    correct = torch.zeros_like(probes.heads.correct)
    correct[chosen.layer, chosen.index] = True
    favoured = replace(probes, heads=replace(probes.heads, correct=correct))
    assert detect(lens, favoured, OWN).head == best
    assert detect(lens, favoured, OTHER).head == chosen


def test_a_set_that_follows_the_probe_is_sorted_wholly_and_its_reverse_not_at_all(
    fitted: tuple[Lens, ProbeSet],
) -> None:
    lens, probes = fitted
    head = probes.ranked()[0]
    scores = logits(lens, probes, OTHER, head)
    order = scores.argsort()
    for sign, share in ((1, 1.0), (-1, 0.0)):
        labels = sign * (scores - np.median(scores)) > 0
        pair = {int(row): str(n % 40) for n, row in enumerate(order)}  # each low text beside a high one
        texts = TextSet(
            "followed", tuple(replace(one, label=bool(labels[n]), pair=pair[n]) for n, one in enumerate(OTHER.texts))
        )
        found = detect(lens, probes, texts)
        assert (found.auc.value, found.majority) == (share, 0.5)
        assert found.auc.value == roc_auc_score(labels, scores)
        paired = found.pairs
        assert paired is not None
        assert (paired.value, paired.n) == (share, 40)


def test_pairs_are_counted_in_which_both_sides_are_there(fitted: tuple[Lens, ProbeSet]) -> None:
    lens, probes = fitted
    same = "The bread is warm today."
    texts = (
        LabelledText(same, True, pair="1"),
        LabelledText(same, False, pair="1"),  # a tie
        LabelledText("They came by bus.", True, pair="2"),
        LabelledText("The train was late.", False),
    )
    paired = detect(lens, probes, TextSet("ties", texts)).pairs
    assert paired is not None
    assert (paired.value, paired.n) == (0.5, 1)
    unpaired = TextSet("alone", tuple(replace(one, pair="") for one in texts))
    assert detect(lens, probes, unpaired).pairs is None


def test_copies_pairs_and_templates_make_one_bundle_and_intervals_as_wide(fitted: tuple[Lens, ProbeSet]) -> None:
    lens, probes = fitted
    alone = tuple(replace(one, pair="") for one in OTHER.texts)
    found = detect(lens, probes, TextSet("alone", alone))
    assert found.n_clusters == len(alone)
    copied = detect(lens, probes, TextSet("copied", alone + alone + alone))
    assert copied.n_clusters == len(alone)
    for name in ("auc", "accuracy", "mean_accuracy"):
        one, three = (getattr(each, name) for each in (found, copied))
        assert three.n == 3 * one.n
        assert three.value == pytest.approx(one.value, abs=1e-6)
        assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.1)  # Newcombe's, or a bootstrap
    row = copied.row(Subject.of(lens.checkpoint, "float32"))
    assert row["n_bundles"] == len(alone)


def test_texts_that_the_probes_may_know_are_refused(fitted: tuple[Lens, ProbeSet]) -> None:
    lens, probes = fitted
    relabelled = replace(OWN, texts=tuple(replace(one, label=not one.label) for one in OWN.texts))
    with pytest.raises(BadTexts, match="fitted to other texts or labels"):
        detect(lens, probes, relabelled)
    with pytest.raises(BadTexts, match="fitted to other texts or labels"):
        detect(lens, replace(probes, name="builtin-by-group"), relabelled)
    with pytest.raises(StaleProbes, match="other weights"):
        detect(lens, replace(probes, fingerprint="0" * 64), OTHER)


def test_checkpoints_are_compared_text_by_text(bench: Bench, fitted: tuple[Lens, ProbeSet]) -> None:
    lens, probes = fitted
    b = open_lens(bench.checkpoint("tiny-b"), device="cpu", dtype="float32", threads=1)
    ours, theirs = detect(lens, probes, OTHER), detect(b, ProbeSet.load(b.checkpoint, "builtin"), OTHER)
    gain = compare(ours, theirs)
    assert gain.auc.estimate.value == pytest.approx(ours.auc.value - theirs.auc.value)
    assert gain.accuracy.estimate.value == pytest.approx(ours.accuracy.value - theirs.accuracy.value)
    means = [one.mean_accuracy.value for one in (ours, theirs)]
    assert gain.mean_accuracy.estimate.value == pytest.approx(means[0] - means[1])
    assert compare(ours, ours).accuracy.p == 1
    with pytest.raises(ValueError, match="different texts"):
        compare(ours, detect(b, ProbeSet.load(b.checkpoint, "builtin"), OWN))


def test_some_texts_are_drawn_with_their_partners() -> None:
    some = some_of(builtin(), 101)
    assert 101 <= len(some) <= 104
    assert set(Counter(one.pair for one in some.texts).values()) == {2}
    assert some == some_of(builtin(), 101) != some_of(builtin(), 101, seed=1)
    assert some_of(builtin(), 10_000) == builtin()


def test_two_styles_are_paired_by_length_and_one_sentence_a_text(tmp_path: Path) -> None:
    forum = [{"comment": f"well post number {n}{' so' * (n % 5)}"} for n in range(40)]
    book = [{"text": f"One came here. Chapter {n} begins now{' too' * (n % 7)}."} for n in range(40)]
    for name, texts in (("forum", forum), ("book", book)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    first, second = f"{tmp_path}/forum.jsonl#comment", f"{tmp_path}/book.jsonl"
    found = two_styles(first, second)
    assert found.classes == ("forum", "book")
    assert found.majority == 0.5
    sides = {pair: [one for one in found.texts if one.pair == pair] for pair in {one.pair for one in found.texts}}
    assert all(len(one.text.split()) == len(two.text.split()) for one, two in sides.values())
    assert all((" post " in one.text) == one.label for one in found.texts)
    assert max(Counter(one.text for one in found.texts).values()) == 1
    assert len(two_styles(first, second, n=3)) == 6
    assert found == two_styles(first, second) != two_styles(first, second, seed=1)
    with pytest.raises(BadTexts, match=r"forum\.jsonl:1 has no 'text'\. Name the field: .*#FIELD"):
        two_styles(f"{tmp_path}/forum.jsonl", second)
    (tmp_path / "long.jsonl").write_text(json.dumps({"text": "a " * 50}) + "\n")
    with pytest.raises(BadTexts, match="no two sentences of equal length"):
        two_styles(f"{tmp_path}/long.jsonl", second)


def test_the_command_says_and_keeps_what_is_found(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    texts = tmp_path / "own.jsonl"
    texts.write_text("".join(json.dumps({"text": one.text, "label": int(one.label)}) + "\n" for one in OTHER.texts))
    assert len(list(open_table(texts).rows)) == 80

    def run() -> str:
        folders = tuple(str(bench.checkpoint(name).folder) for name in ("tiny-a", "tiny-b"))
        styles = (f"{texts}#text", f"{texts}#text")
        transfer(folders, (str(texts),), styles, "builtin", out=tmp_path, limit=40, machine=Machine("cpu", threads=1))
        return capsys.readouterr().out

    said = run()
    assert said.count("tiny-a on own, 1 above 0: larger class 0.") == 1
    assert said.count("tiny-b on styles, own above own: larger class 0.5") == 1
    assert said.count("minus tiny-a") == 2
    assert said.count("with the own one above") == 2
    kept = list(Results(tmp_path).rows("detection"))
    assert [(row["checkpoint"], row["test_set"]) for row in kept] == [
        (name, test_set) for name in ("tiny-a", "tiny-b") for test_set in ("own", "styles")
    ]
    assert all(len(row[name]) == 4 for row in kept for name in ("auc", "accuracy", "mean_accuracy"))
    assert kept[0]["auc"][3] == 40
    assert kept[0]["pairs"] is None
    assert kept[1]["pairs"][3] == 20
    assert run() == said
    assert list(Results(tmp_path).rows("detection")) == kept
    with pytest.raises(ValueError, match="at least one checkpoint"):
        transfer(())
