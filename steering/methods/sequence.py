"""Fits layer after layer: each sees what the model computes with the edits of the layers before it in force.

The texts are read once in all. Between two layers every batch waits until the edits there are fitted, and goes on with
them; what waits is one residual stream per token, in the model's own number format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lens import Lens, NotEnoughMemory
from lens.activations import encode_ends, sorted_batches
from lens.blocks import RowCache, rotary_table
from lens.pool import free_bytes
from steering.dose import Steering
from steering.edit import Edit, Site
from steering.methods.table import Fitter
from steering.methods.units import Unit
from steering.plan import Plan
from steering.steerer import Place, Shifts


@dataclass(eq=False)
class Waiting:
    """Texts of about one length on their way through the layers."""

    texts: list[int]
    """Which ones."""
    hidden: Float[Tensor, "row pos d_model"]
    """Padded on the right: what comes behind a token does not reach it."""
    ends: Int[Tensor, " row"]
    """Each text's last position."""

    @property
    def last(self) -> tuple[Tensor, Tensor]:
        """Indices of the last positions."""
        return torch.arange(len(self.ends), device=self.ends.device), self.ends

    def edited(self, place: Place | None, x: Tensor, out: Tensor, positions: str) -> Tensor:
        """What a place gives, edited as the position rule says."""
        if place is None:
            return out
        if positions == "all":
            return place.added(x, out)
        edited = out.clone()
        edited[self.last] = place.added(x[self.last][:, None], out[self.last][:, None])[:, 0]
        return edited


@torch.no_grad()
def fit_in_sequence(
    lens: Lens,
    texts: Sequence[str],
    labels: Bool[Tensor, " text"],
    units: Sequence[Unit],
    fitter: Fitter,
    plan: Plan,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Edit, ...]:
    """An edit for each unit, fitted to the last token of each text, with all earlier ones at strength 1 and no gate.

    `on_progress` hears (texts through a layer, so many in all).
    """
    lens.check_weights()
    batches, fits = _embedded(lens, texts), _Fits(lens, labels, units, fitter, plan)
    n_layers, done = max(unit.site.layer for unit in units) + 1, 0
    rotary = rotary_table(lens.model, max(batch.hidden.shape[1] for batch in batches))
    for layer in range(n_layers):
        heads = _heads_of(lens, layer, rotary)
        behind = fits.at(Site(layer, "heads"), batches, heads)
        block = lens.blocks[layer]
        for batch in batches:
            z = heads(batch)
            hidden = batch.hidden + batch.edited(behind, z, block.written(z), plan.positions)
            batch.hidden = hidden + block.mlp(hidden)
            done += len(batch.texts)
            if on_progress is not None:
                on_progress(done, n_layers * len(texts))
        after = fits.at(Site(layer, "residual"), batches, lambda batch: batch.hidden)
        for batch in batches:
            batch.hidden = batch.edited(after, batch.hidden, batch.hidden, plan.positions)
    return tuple(fits.found)


class _Fits:
    """The edits found so far, place by place."""

    def __init__(
        self, lens: Lens, labels: Bool[Tensor, " text"], units: Sequence[Unit], fitter: Fitter, plan: Plan
    ) -> None:
        self._lens, self._labels, self._units, self._fitter, self._plan = lens, labels, units, fitter, plan
        self.found: list[Edit] = []

    def at(self, site: Site, batches: Sequence[Waiting], read: Callable[[Waiting], Tensor]) -> Place | None:
        """Fit the units of a place to what `read` gives there; None where there are none."""
        units = [unit for unit in self._units if unit.site == site]
        if not units:
            return None
        x = torch.empty(len(self._labels), units[0].width, dtype=torch.float64)
        for batch in batches:
            x[batch.texts] = read(batch)[batch.last].cpu().double()
        if not x.isfinite().all():
            raise ValueError(f"Some activations in {site} are not numbers. Open the checkpoint with --dtype float32.")
        edits = tuple(unit.edit(self._fitter(x[:, unit.part], self._labels)) for unit in units)
        self.found += edits
        whole = Steering(self._plan, self._lens.fingerprint, edits).at(1.0)
        return Shifts(self._lens, [whole]).places[site]


def _embedded(lens: Lens, texts: Sequence[str]) -> list[Waiting]:
    """Batches of about one length each, before the first layer; refused where memory cannot hold them."""
    rows = encode_ends(lens, texts)
    batches = list(sorted_batches(lens, rows))
    needed = sum(len(batch) * len(rows[batch[0]]) for batch in batches) * lens.d_model * lens.dtype.itemsize
    if needed > (free := free_bytes(lens.device)):
        raise NotEnoughMemory(
            f"Fitting layer after layer holds every token of the texts at once: {needed / 1e9:.1f} GB for these "
            f"{len(texts):,}, and {free / 1e9:.1f} GB are free on {lens.device}. Use a smaller set of texts."
        )
    found = []
    for batch in batches:
        tokens = pad_sequence([torch.tensor(rows[text]) for text in batch], batch_first=True, padding_value=lens.eos)
        ends = torch.tensor([len(rows[text]) - 1 for text in batch], device=lens.device)
        found.append(Waiting(batch, lens.embed(tokens.to(lens.device)), ends))
    return found


def _heads_of(lens: Lens, layer: int, rotary: tuple[Tensor, Tensor]) -> Callable[[Waiting], Tensor]:
    """How a layer's heads read a batch, [row pos heads_d_head]."""
    block = lens.blocks[layer]

    def heads(batch: Waiting) -> Tensor:
        n_rows, width = batch.hidden.shape[:2]
        cache = RowCache((n_rows, block.n_kv_heads, width, block.d_head), 1, lens.device, lens.dtype)
        return block.heads(batch.hidden, (rotary[0][:width], rotary[1][:width]), cache, 0, None)

    return heads
