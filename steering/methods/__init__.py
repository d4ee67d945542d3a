"""From a plan to what it changes in one checkpoint: one file for each method."""

from __future__ import annotations

from lens import Lens
from probes.probe import ProbeSet
from steering.dose import Steering
from steering.edit import Edit
from steering.methods import caa, gate, iti, prefix
from steering.plan import Plan


def fit(plan: Plan, lens: Lens) -> Steering:
    """Fit a plan to a checkpoint, from the probes that lie beside it."""
    if plan.site is None:
        words = prefix.DETOX_PROMPT if plan.method == "prompting" else prefix.trained_prefix(lens)
        return Steering(plan, lens.checkpoint.fingerprint, prefix=words)
    probes = ProbeSet.load(lens.checkpoint, plan.probes)
    edits = _edits(plan, lens, probes)
    if plan.gate is not None:
        edits = gate.gated(edits, probes, plan.gate)
    return Steering(plan, lens.checkpoint.fingerprint, edits)


def _edits(plan: Plan, lens: Lens, probes: ProbeSet) -> tuple[Edit, ...]:
    if plan.method == "iti":
        sigmas_of = ProbeSet.load(lens.checkpoint, plan.sigma_from) if plan.sigma_from else None
        return iti.edits(iti.directions(plan, probes, sigmas_of), lens.grid.n_heads)
    if plan.method == "caa":
        return caa.edits(plan, probes)
    raise NotImplementedError(plan.method)
