"""From a plan to what it changes in one checkpoint, by the record of its method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import torch

from lens import Lens
from probes.probe import ProbeSet
from probes.store import StaleProbes
from probes.text_files import builtin
from probes.texts import TextSet, bonds
from steering import store
from steering.dose import Steering
from steering.edit import Edit
from steering.methods.caa import CAA
from steering.methods.erase import ABLATION, LEACE
from steering.methods.gate import gated
from steering.methods.iti import ITI
from steering.methods.prefix import PREFIX, PROMPTING
from steering.methods.sequence import fit_in_sequence
from steering.methods.table import register
from steering.methods.transport import LINEAR_ACT, MEAN_ACT
from steering.methods.units import units_of
from steering.plan import Plan

for method in (ITI, CAA, LINEAR_ACT, MEAN_ACT, ABLATION, LEACE, PROMPTING, PREFIX):
    register(method)
OnProgress = Callable[[int, int], None]


def fit(
    plan: Plan, lens: Lens, texts: TextSet | None = None, on_progress: OnProgress | None = None, keep: bool = True
) -> Steering:
    """Fit a plan to a checkpoint, from the probes that lie beside it.

    act, mean-act and leace need the texts of these probes: they are fitted once and, unless told otherwise, kept beside
    the checkpoint where its folder can be written.
    """
    fingerprint = lens.fingerprint
    if plan.rule.prefix is not None:
        words = plan.rule.prefix(lens)
        return Steering(plan, fingerprint, prefix=words, fitted_on=_digest(words))
    probes = ProbeSet.load(lens.checkpoint, plan.probes)
    if probes.fingerprint != fingerprint:
        raise StaleProbes(
            f"The files of {lens.checkpoint.name} have changed since it was opened, and its probes with them. Open it "
            "again."
        )
    sigmas_of = ProbeSet.load(lens.checkpoint, plan.sigma_from) if plan.sigma_from else None
    if plan.rule.edits is not None:
        edits = plan.rule.edits(plan, probes, sigmas_of)
    else:
        edits = _in_sequence(plan, lens, probes, texts, on_progress, keep)
    edits = edits if plan.gate is None else gated(edits, probes, plan.gate)
    known = store.fitted_on(probes) | ({"sigmas_of": sigmas_of.texts_digest} if sigmas_of else {})
    return Steering(plan, fingerprint, edits, fitted_on=_digest(json.dumps(known, sort_keys=True)))


def _digest(known: str) -> str:
    return hashlib.sha256(known.encode()).hexdigest()


def _in_sequence(
    plan: Plan, lens: Lens, probes: ProbeSet, texts: TextSet | None, on_progress: OnProgress | None, keep: bool
) -> tuple[Edit, ...]:
    """The fit that lies beside the checkpoint, else a new one."""
    if texts is None and (ours := builtin()).digest == probes.texts_digest:
        texts = ours
    if texts is not None and texts.digest != probes.texts_digest:
        raise ValueError(
            f"The texts {texts.name!r} or their labels are not those that the probes {probes.name!r} of "
            f"{probes.checkpoint} were fitted to. Give the same file with the same --rule, or name the probes of these "
            "texts with --probes."
        )
    try:
        return store.load(lens.checkpoint, plan, probes)
    except store.NoFit:
        if texts is None:
            raise
    train = _train_rows(texts, probes)
    words = [texts.texts[row].text for row in train]
    labels = torch.tensor([texts.texts[row].label for row in train])
    assert plan.rule.fitter is not None  # a record has one way to be fitted
    edits = fit_in_sequence(lens, words, labels, units_of(plan, probes), plan.rule.fitter, plan, on_progress)
    if keep and store.can_keep(lens.checkpoint):
        store.save(lens, plan, probes, edits)
    return edits


def _train_rows(texts: TextSet, probes: ProbeSet) -> list[int]:
    """The rows that the probes were fitted on: neither held out, nor a copy or partner of one that is."""
    held_out = {bond for row in probes.test_rows for bond in bonds(texts.texts[row])}
    return [row for row, text in enumerate(texts.texts) if held_out.isdisjoint(bonds(text))]
