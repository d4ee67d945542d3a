"""What a steered run really did: the shift that was asked for beside the one that arrived."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, normalize

from lens import Lens
from steering.decode import Seen
from steering.dose import Doses
from steering.edit import Affine, Edit, Site
from steering.notes import rounding_note
from steering.plan import Plan
from steering.steerer import by_site, strengths_of

SUMMED = 4 * torch.finfo(torch.float32).eps
"""Rounding of a sum in float32, relative to the sum of its terms' sizes; the order of adding differs by device."""


class ShiftMissed(RuntimeError):
    """Steering did not arrive where and as strongly as asked; the text would have passed for steered."""


@dataclass(frozen=True)
class Shift:
    """How far the residual stream was moved along one edit's own change."""

    edit: str
    """"L3H7" for a head, behind its layer's `o_proj`; "L3" for the stream after a layer."""
    requested: float
    """Length along the edit's change, in units of the residual stream; all edits of the place together."""
    measured: float
    """The same, as the difference of what the place gave with and without them."""
    tolerance: float
    """How far the two may differ by rounding in the model's number format; further is an error."""


@dataclass(frozen=True)
class Receipt:
    """One row of a run: what was asked, what was measured, and what it takes to repeat it."""

    doses: tuple[tuple[Plan, float], ...]
    """Plans with their strengths; none: the plain model."""
    fitted_on: tuple[str, ...]
    """For each plan, the digest of what its probes were fitted on."""
    shifts: tuple[Shift, ...]
    """At the last token of the prompt. Where the prompt is edited too, the position before is compared as well."""
    n_positions: int
    """Positions that were edited, in the prompt and behind it."""
    gated: float | None
    """Share of (edit, token) pairs that the gates let through; None without a gate."""
    seed: int
    sample: int
    model: Mapping[str, Any]
    """Checkpoint, fingerprint, device, dtype and threads; what is odd about it, if anything."""
    notes: tuple[str, ...] = ()
    """Sentences on the prompt: special tokens, a trailing blank."""

    @property
    def oddities(self) -> tuple[str, ...]:
        """Sentences on the number format, and on what is odd about the model."""
        tolerance = max((shift.tolerance for shift in self.shifts), default=0.0)
        rounding = rounding_note(self.model["dtype"], tolerance) if self.shifts else ""
        return tuple(filter(None, (rounding, *self.model.get("warnings", ()))))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about number format, model and prompt."""
        return (*self.oddities, *self.notes)

    @property
    def worst_miss(self) -> float:
        """Largest distance of a measured shift from the requested one; the number format's rounding, or an error."""
        return max((abs(shift.measured - shift.requested) for shift in self.shifts), default=0.0)

    @property
    def mean_shift(self) -> tuple[float, float]:
        """Requested and measured length, mean over the edits."""
        n = max(len(self.shifts), 1)
        asked, arrived = (sum(abs(getattr(s, name)) for s in self.shifts) / n for name in ("requested", "measured"))
        return asked, arrived

    @property
    def layers(self) -> set[str]:
        """Layers with an edit."""
        return {shift.edit.split("H")[0] for shift in self.shifts}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON line."""
        whole = {**asdict(self), "model": dict(self.model)}
        doses = zip(self.doses, whole.pop("fitted_on"), strict=True)
        asked = [{"plan": asdict(plan), "strength": strength, "fitted_on": on} for (plan, strength), on in doses]
        return {**whole, "doses": json.loads(json.dumps(asked))}

    def __str__(self) -> str:
        model = self.model
        run = f"{model['checkpoint']} {str(model['fingerprint'])[:8]}, {model['dtype']} on {model['device']}"
        run = f"{run}, {model['threads']} thread{'s' * (model['threads'] != 1)}, seed {self.seed}, sample {self.sample}"
        run = " ".join([f"{run}.", *self.oddities]) if self.oddities else run
        asked = "; ".join(f"{plan} at {strength:g}" for plan, strength in self.doses if strength)
        if not self.shifts:
            return f"{asked or 'not steered'}; {run}"
        n, n_layers = len(self.shifts), len(self.layers)
        gate = "" if self.gated is None else f", gates open for {self.gated:.0%}"
        requested, measured = self.mean_shift
        return (
            f"{asked}: {n} edit{'s' * (n != 1)} in {n_layers} layer{'s' * (n_layers != 1)}, {self.n_positions} "
            f"position{'s' * (self.n_positions != 1)}{gate}, mean shift asked {requested:.4f}, "
            f"measured {measured:.4f}; {run}"
        )


def compare(lens: Lens, rows: Sequence[Doses], seen: Seen) -> list[tuple[Shift, ...]]:
    """Each row's shifts at the last position of a pass, edit by edit, or ShiftMissed.

    What was requested is computed anew from the edits and from what they read, on the CPU in float32, and not by the
    code that made the shift.
    """
    shifts: list[list[Shift]] = [[] for _ in rows]
    asked = strengths_of(lens, rows)
    places: dict[Site, list[tuple[Edit, Tensor]]] = {}
    for steering, strengths in asked:
        for site, edits in by_site(steering.edits).items():
            places.setdefault(site, []).extend((edit, strengths.cpu()) for edit in edits)
    for site, pairs in sorted(places.items()):
        if site not in seen:
            raise ShiftMissed(_sentence(lens, site, "it was never reached"))
        ones, strengths = [edit for edit, _ in pairs], torch.stack([strengths for _, strengths in pairs])[..., None]
        along = _at_one_place(lens, site, ones, strengths, *(part[:, -1].float().cpu() for part in seen[site]))
        acts = (strengths[..., 0] != 0).T.tolist()
        for row, (mine, requested, measured, tolerance) in enumerate(zip(acts, *along, strict=True)):
            lengths = zip(mine, ones, requested, measured, tolerance, strict=True)
            shifts[row] += [Shift(edit.name, *three) for acting, edit, *three in lengths if acting]
    return [tuple(row) for row in shifts]


def _at_one_place(
    lens: Lens,
    site: Site,
    edits: Sequence[Edit],
    strengths: Float[Tensor, "edit row 1"],
    x: Float[Tensor, "row d"],
    before: Float[Tensor, "row d_model"],
    after: Float[Tensor, "row d_model"],
) -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """Requested and measured lengths and the tolerance between them, [row edit].

    The change must be what was asked, but for the number format's rounding.
    """
    own = torch.stack([_change(edit, x) for edit in edits])
    eps = torch.finfo(lens.dtype).eps
    slack = eps * before.abs()
    W_O, pushed = None, all(edit.is_push for edit in edits)
    if site.where == "heads":
        W_O = lens.output_projection(site.layer).weight.detach()
        if pushed:  # a few heads of many: the others' columns need not be looked at
            touched = (own != 0).flatten(0, 1).any(dim=0)
            own, W_O = own[..., touched], W_O[:, touched.to(W_O.device)]
        W_O = W_O.float().cpu()
    if not pushed:  # it is computed from x, and rounded term by term
        summed = SUMMED * (strengths.abs() * torch.stack([_terms(edit, x) for edit in edits])).sum(dim=0)
        if W_O is not None:
            summed = linear(summed + eps * (strengths * own).sum(dim=0).abs(), W_O.abs())
        slack = slack + summed
    own = own if W_O is None else linear(own, W_O)
    requested, measured = (strengths * own).sum(dim=0), after - before
    rounded = 2 * eps * (strengths * own).abs().sum(dim=0)  # edits that oppose each other round one by one
    slack = slack + rounded + 1e-5 * requested.norm(dim=-1, keepdim=True)
    if bool((miss := (measured - requested).abs() - slack).isnan().any() or (miss > 0).any()):
        row = int(miss.nan_to_num(nan=torch.inf).amax(dim=-1).argmax())
        asked, arrived = requested[row].norm().item(), measured[row].norm().item()
        what = f"a shift of length {asked:.4g} was asked and {arrived:.4g} arrived"
        raise ShiftMissed(_sentence(lens, site, what))
    units = normalize(own, dim=-1)
    tolerance = (units.abs() * slack).sum(dim=-1).T.tolist()
    along = [(units * whole).sum(dim=-1).T.tolist() for whole in (requested, measured)]
    return along[0], along[1], tolerance


def _change(edit: Edit, x: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    change = edit.change(x)
    return change if edit.gate is None else change * edit.gate.opens(x)[:, None]


def _terms(edit: Edit, x: Float[Tensor, "row d"]) -> Float[Tensor, "row d"]:
    """How much is added up to make a change: of a small difference of large terms, rounding leaves less."""
    parts = (edit.change.constant, edit.change.scale, edit.change.left, edit.change.right)
    return Affine(*(None if part is None else part.abs() for part in parts))(x.abs())  # type: ignore[arg-type]


def _sentence(lens: Lens, site: Site, what: str) -> str:
    return (
        f"Steering missed in {site}, of {lens.checkpoint.name}: {what}. Nothing was written, because it "
        "would have passed for steered text. Close and reopen the checkpoint; if it happens again, report it with this "
        "sentence."
    )
