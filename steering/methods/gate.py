"""A gate for any method: act only where the probe of the edited place says "toxic" (after CAST, Lee et al. 2024).

CAST asks one condition of the whole prompt. Here each edit asks the probe of its own head or layer, about the very
activation that it is going to change: for every row and token anew, and without looking ahead, since the layers that
read the concept best come after some of those that are edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lens import Head
from probes.probe import ProbeSet
from steering.edit import Edit, Gate, padded


def gated(edits: Sequence[Edit], probes: ProbeSet, threshold: float) -> tuple[Edit, ...]:
    """The same edits, each behind the probe of its place."""
    return tuple(replace(edit, gate=gate_of(edit, probes, threshold)) for edit in edits)


def gate_of(edit: Edit, probes: ProbeSet, threshold: float) -> Gate:
    """The probe of the edit's head, or of the residual stream after its layer."""
    if edit.site.where == "residual":
        layer = edit.site.layer
        return Gate(probes.residual.weight[layer], float(probes.residual.bias[layer]), threshold)
    head = Head.parse(edit.name)
    weight = padded(probes.heads.weight[head.layer, head.index], head.index, probes.grid.n_heads)
    return Gate(weight, float(probes.heads.bias[head.layer, head.index]), threshold)
