"""Probe accuracy between checkpoints, from the probe sets stored beside them: the spine's tests, as points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.extract import Probed
from evaluation.family import Member, Shown, baselines, key, shown
from lens import Checkpoint, open_lens
from probes.differences import estimate_mean, paired_difference
from probes.lexicon import Lexicon
from probes.probe import ProbeSet, compare, share_right
from probes.store import NoProbes
from probes.tokens import ToxicEnd, layer_tokens


def probed(checkpoints: Sequence[Checkpoint], probes: str) -> list[Probed]:
    """A point per checkpoint with probes of that name, and per mean over training seeds; each beside its baseline."""
    sets = {checkpoint.name: ProbeSet.load(checkpoint, probes) for checkpoint in checkpoints}
    if len(sets) < len(checkpoints):
        raise ValueError("Two of the checkpoints have the same name, and points go by name. Give each once.")
    if len({(one.texts_digest, one.test_rows) for one in sets.values()}) > 1:
        raise ValueError(f"The checkpoints' probes {probes!r} hold out different texts. Fit all with the same options.")
    members = [
        Member(one.name, str(one.card.get("family") or one.name), one.toxic_share, one.seed) for one in checkpoints
    ]
    base = baselines(members)
    ends = {one.name: layer_tokens(open_lens(one, "cpu"), sets[one.name], Lexicon.builtin()) for one in checkpoints}
    return [_point(point, probes, sets, base, ends) for point in shown(members)]


def stored(checkpoints: Sequence[Checkpoint], names: Sequence[str] = ("toxigen", "builtin")) -> list[Probed]:
    """The points of all those probe sets that every checkpoint has."""
    found = []
    for name in names:
        try:
            found += probed(checkpoints, name) if checkpoints else []
        except NoProbes:
            continue
    return found


def _point(
    point: Shown, probes: str, sets: dict[str, ProbeSet], base: dict[str, str], ends: dict[str, ToxicEnd]
) -> Probed:
    first, alone = sets[point.members[0]], len(point.members) == 1
    right = np.mean([share_right(sets[name]) for name in point.members], axis=0)
    least, clusters = [base[name] for name in point.members], np.array(first.test_clusters)
    found: dict[str, Any] = {"difference": None, "p": None, "difference_by_head": None, "p_by_head": None}
    if tuple(least) != point.members:
        base_right = np.mean([share_right(sets[name]) for name in least], axis=0)
        over_texts = paired_difference(right, base_right, np.random.default_rng(0), clusters)
        found |= {"difference": over_texts.estimate, "p": over_texts.p}
        if alone:
            by_head = compare(first, sets[least[0]], np.random.default_rng(0)).by_head
            found |= {"difference_by_head": by_head.estimate, "p_by_head": by_head.p}
    head, end = first.ranked()[0], ends[point.members[0]]
    return Probed(
        key=point.key("probes", probes),
        checkpoint=point.name,
        family=point.family,
        toxic_share=point.toxic_share,
        training_seed=point.training_seed,
        probes=probes,
        value=estimate_mean(right, np.random.default_rng(0), clusters),
        majority=first.majority,
        best=first.accuracy(head) if alone else None,
        best_head=str(head) if alone else "",
        null_band=first.null_band if alone else None,
        toxic_tokens=end.n_listed if alone else None,
        random_tokens=(end.random_listed.low, end.random_listed.high) if alone else None,
        countable=end.single_tokens if alone else None,
        members=() if alone else tuple(key(name, "probes", probes) for name in point.members),
        **found,
    )
