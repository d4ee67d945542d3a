"""The decoding loop's forward passes: the model's own layers, with the edits between them.

The rotary table, the padding mask and room for all keys and values are made once per batch. No hook is hung up: an edit
is one addition where it belongs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens import Lens
from lens.blocks import RowCache, rotary_table
from steering.edit import Site
from steering.steerer import Place, Shifts

Seen = dict[Site, tuple[Tensor, Tensor, Tensor]]
"""By place: what its edits read, and what it gave before and after them."""


class Decoder:
    """A batch of rows that grow by a token at a time, each behind one of a few shared beginnings."""

    @torch.inference_mode()
    def __init__(
        self,
        lens: Lens,
        prefixes: Sequence[Sequence[int]],
        prefix_of: Sequence[int],
        n_steps: int,
        shifts: Shifts,
        seen: Seen | None = None,
    ) -> None:
        """`prefixes` are all but the last token of the prompts, read once each, with the edits of `shifts`; row r
        continues `prefix_of[r]`. `seen` is filled with what the edits did."""
        self._lens = lens
        filled, n_rows = max(len(tokens) for tokens in prefixes), len(prefix_of)
        width = filled + n_steps
        self._rotary = rotary_table(lens.model, width)
        lengths = torch.tensor([len(tokens) for tokens in prefixes], device=lens.device)
        n_kv_heads, d_head = lens.blocks[0].n_kv_heads, lens.grid.d_head
        self._cache = RowCache((len(prefixes), n_kv_heads, width, d_head), lens.grid.n_layers, lens.device, lens.dtype)
        if filled:
            self._read(prefixes, filled - lengths, shifts, seen)
        self.n_read = filled
        """Positions that were read before the first step, padding included."""
        prefix = torch.tensor(prefix_of, device=lens.device)
        if list(prefix_of) != list(range(n_rows)):
            self._cache.keep(prefix)
        self._positions = lengths[prefix]
        self._mask = _padding_mask(lens, filled - self._positions, width)

    @torch.inference_mode()
    def step(self, tokens: Int[Tensor, "row"], shifts: Shifts, seen: Seen | None = None) -> Float[Tensor, "row vocab"]:
        """Read each row's next token; logits of the one after. `seen` is filled with what the edits did."""
        cos, sin = self._rotary
        rotary = cos[self._positions][:, None], sin[self._positions][:, None]
        mask = None if self._mask is None else self._mask[..., : self._cache.filled + 1]
        hidden = self._through(tokens[:, None], rotary, mask, shifts, seen)
        self._positions = self._positions + 1
        return self._lens.model.lm_head(self._lens.model.model.norm(hidden)).squeeze(1)

    @torch.inference_mode()
    def keep(self, rows: Int[Tensor, "kept"]) -> None:
        """Go on with these rows only."""
        self._cache.keep(rows)
        self._positions = self._positions[rows]
        self._mask = None if self._mask is None else self._mask[rows]

    def _read(
        self, prefixes: Sequence[Sequence[int]], n_padding: Int[Tensor, "prefix"], shifts: Shifts, seen: Seen | None
    ) -> None:
        """All prefixes at once, padded on the left."""
        tokens, real = self._lens.pad(prefixes)
        positions = (real.cumsum(dim=1) - 1).clamp(min=0)
        cos, sin = self._rotary
        mask = None
        if bool(n_padding.any()):
            causal = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril()
            itself = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device)  # padding must see something
            mask = (causal & real.bool()[:, None, None]) | itself
        self._through(tokens, (cos[positions], sin[positions]), mask, shifts, seen)

    def _through(
        self,
        tokens: Int[Tensor, "row pos"],
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        shifts: Shifts,
        seen: Seen | None = None,
    ) -> Float[Tensor, "row pos d_model"]:
        """The residual stream after the last layer; keys and values go into the cache."""
        hidden = self._lens.model.model.embed_tokens(tokens)
        for layer, (block, (behind, after)) in enumerate(zip(self._lens.blocks, shifts.layers, strict=True)):
            z = block.heads(hidden, rotary, self._cache, layer, mask)
            out = block.written(z)
            hidden = hidden + (out if behind is None else _edited(behind, z, out, seen))
            hidden = hidden + block.mlp(hidden)
            if after is not None:
                hidden = _edited(after, hidden, hidden, seen)
        self._cache.filled += tokens.shape[1]
        return hidden


def _edited(place: Place, x: Tensor, out: Tensor, seen: Seen | None) -> Tensor:
    """What a place gives, with its edits."""
    edited = place.added(x, out)
    if seen is not None:
        seen[place.site] = x, out, edited
    return edited


def _padding_mask(lens: Lens, n_padding: Int[Tensor, "row"], width: int) -> Float[Tensor, "row 1 1 pos"] | None:
    """What to add to a new token's attention scores, so that no row sees its padding; None where no row has any."""
    if not bool(n_padding.any()):
        return None
    padding = torch.arange(width, device=lens.device) < n_padding[:, None]
    mask = torch.zeros(padding.shape, device=lens.device, dtype=lens.dtype)
    return mask.masked_fill(padding, float("-inf"))[:, None, None]
