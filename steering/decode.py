"""The decoding loop's forward passes: the model's own layers, with the edits between them.

The rotary table, the padding mask and room for all keys and values are made once per batch. No hook is hung up: an edit
is one addition where it belongs. On CUDA all steps but the first few are replays of one that was recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens import Lens, positions
from lens.blocks import Cache, RowCache, StillCache, normed, product, rotary_table, sight
from steering.edit import Site
from steering.graph import ALIGNED, Repeated, pays
from steering.shared import SharedCache
from steering.steerer import Place, Shifts

Seen = dict[Site, tuple[Tensor, Tensor, Tensor]]
"""By place: what its edits read, and what it gave before and after them."""


class ReadTogether(NamedTuple):
    """Prefixes that were read at once, without any edit, and the model that read them."""

    fingerprint: str
    dtype: str
    device: str
    tokens: tuple[tuple[int, ...], ...]


Kept = dict[ReadTogether, RowCache]
"""What a batch has read, for the next one, which may begin with the same prefixes in the same model."""
MANY_ROWS = 32
"""From so many rows on, beginnings that rows share are read once for all of them in every step; below, a copy for each
row costs less than the bookkeeping. Not where steps are replayed: that counts for more on a GPU, which reads copies
fast, as long as they take no more than COPIES bytes."""
COPIES = 4e9


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
        kept: Kept | None = None,
    ) -> None:
        """`prefixes` are all but the last token of the prompts, read once each, with the edits of `shifts`; row r
        continues `prefix_of[r]`. `seen` is filled with what the edits did; `kept`, where it can be, with what was read.
        """
        lens.check_weights()
        self._lens, self._left = lens, n_steps
        self._still: StillCache | None = None
        """Takes the place of the cache where steps are repeated."""
        lengths, n_rows = [len(tokens) for tokens in prefixes], len(prefix_of)
        self.n_read = max(lengths)
        """Positions that were read before the first step, padding included."""
        self._rotary = rotary_table(lens.model, self.n_read + n_steps)
        self._positions = torch.tensor([lengths[i] for i in prefix_of], device=lens.device)
        self._mask: Tensor | None = None
        self._cache: Cache
        block = lens.blocks[0]
        position = len(lens.blocks) * 2 * block.n_kv_heads * block.d_head * lens.dtype.itemsize
        replays = pays(lens.device, n_steps) and n_rows * (self.n_read + n_steps) * position <= COPIES
        if n_rows >= MANY_ROWS and n_rows >= 2 * len(prefixes) and not replays:
            self._cache = self._shared(prefixes, prefix_of, n_steps, shifts, seen, kept)
            return
        room = n_steps + replays * (-(self.n_read + n_steps) % ALIGNED)
        self._cache = self._read(prefixes, room, shifts, seen)
        if list(prefix_of) != list(range(n_rows)):
            self._cache.keep(torch.tensor(prefix_of, device=lens.device))
        self._mask = _padding_mask(lens, self.n_read - self._positions, self.n_read + room)

    def _shared(
        self,
        prefixes: Sequence[Sequence[int]],
        prefix_of: Sequence[int],
        n_steps: int,
        shifts: Shifts,
        seen: Seen | None,
        kept: Kept | None,
    ) -> SharedCache:
        """Beginnings read once, those of like length together where no edit has to be looked at."""
        lengths = [len(tokens) for tokens in prefixes]
        together = [list(range(len(prefixes)))] if shifts.places else alike(lengths)
        known = {} if shifts.places or kept is None else kept
        model, read = self._lens.description, Kept()
        for places in together:
            tokens = tuple(tuple(prefixes[i]) for i in places)
            some = ReadTogether(self._lens.fingerprint, model["dtype"], model["device"], tokens)
            read[some] = known[some] if some in known else self._read(tokens, 0, shifts, seen)
        known.clear()
        known.update(read)
        found = {i: (number, place) for number, places in enumerate(together) for place, i in enumerate(places)}
        begins = torch.tensor([found[i] for i in prefix_of], device=self._lens.device)
        return SharedCache([(cache, list(map(len, some.tokens))) for some, cache in read.items()], begins, n_steps)

    @torch.inference_mode()
    def step(self, tokens: Int[Tensor, " row"], shifts: Shifts, seen: Seen | None = None) -> Float[Tensor, "row vocab"]:
        """Read each row's next token; logits of the one after, which the next step may overwrite.

        `seen` is filled with what the edits did. `shifts` are the same in every step, but for rows that were dropped.
        """
        self._left -= 1
        begins = self._still is None and seen is None and pays(self._lens.device, self._left)
        if begins and isinstance(self._cache, RowCache):
            self._still, self._repeated = StillCache(self._cache, self._mask), Repeated()
        if self._still is not None:
            return self._repeated(partial(self._still_step, self._still, shifts), tokens)
        mask = None if self._mask is None else self._mask[..., : self._cache.filled + 1]
        return self._logits(tokens, mask, self._cache, shifts, seen)

    @torch.inference_mode()
    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only."""
        if self._still is not None:
            self._cache.filled, self._still = int(self._still.filled), None
        self._cache.keep(rows)
        self._positions = self._positions[rows]
        self._mask = None if self._mask is None else self._mask[rows]

    def _still_step(self, still: StillCache, shifts: Shifts, tokens: Int[Tensor, " row"]) -> Float[Tensor, "row vocab"]:
        return self._logits(tokens, still.mask(), still, shifts)

    def _logits(
        self,
        tokens: Int[Tensor, " row"],
        mask: Tensor | None,
        cache: Cache | StillCache,
        shifts: Shifts,
        seen: Seen | None = None,
    ) -> Float[Tensor, "row vocab"]:
        cos, sin = self._rotary
        rotary = cos[self._positions][:, None], sin[self._positions][:, None]
        hidden = self._through(tokens[:, None], rotary, mask, cache, shifts, seen)
        self._positions += 1
        return product(normed(hidden), self._lens.unembedding).squeeze(1)

    def _read(self, prefixes: Sequence[Sequence[int]], n_steps: int, shifts: Shifts, seen: Seen | None) -> RowCache:
        """Some prefixes at once, padded on the left; behind them, room for so many steps."""
        filled, block = max(map(len, prefixes)), self._lens.blocks[0]
        shape = len(prefixes), block.n_kv_heads, filled + n_steps, block.d_head
        cache = RowCache(shape, len(self._lens.blocks), self._lens.device, self._lens.dtype)
        if not filled:
            return cache
        tokens, real = self._lens.pad(prefixes)
        where = positions(tokens, real)
        cos, sin = self._rotary
        self._through(tokens, (cos[where], sin[where]), sight(real), cache, shifts, seen)
        return cache

    def _through(
        self,
        tokens: Int[Tensor, "row pos"],
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Cache | StillCache,
        shifts: Shifts,
        seen: Seen | None = None,
    ) -> Float[Tensor, "row pos d_model"]:
        """The residual stream after the last layer; keys and values go into the cache."""
        hidden = self._lens.embed(tokens)
        for layer, (block, (behind, after)) in enumerate(zip(self._lens.blocks, shifts.layers, strict=True)):
            z = block.heads(hidden, rotary, cache, layer, mask)
            out = block.written(z)
            hidden = hidden + (out if behind is None else _edited(behind, z, out, seen))
            hidden = hidden + block.mlp(hidden)
            if after is not None:
                hidden = _edited(after, hidden, hidden, seen)
        cache.filled += tokens.shape[1]
        return hidden


def _edited(place: Place, x: Tensor, out: Tensor, seen: Seen | None) -> Tensor:
    """What a place gives, with its edits."""
    edited = place.added(x, out)
    if seen is not None:
        seen[place.site] = x, out, edited
    return edited


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Places of the lengths, in groups of like length, so that little is padding."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    groups = [[order[0]]]
    for place in order[1:]:
        if lengths[place] <= 1.2 * lengths[groups[-1][0]] + 8:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _padding_mask(lens: Lens, n_padding: Int[Tensor, " row"], width: int) -> Float[Tensor, "row 1 1 pos"] | None:
    """What to add to a new token's attention scores, so that no row sees its padding; None where no row has any."""
    if not bool(n_padding.any()):
        return None
    padding = torch.arange(width, device=lens.device) < n_padding[:, None]
    mask = torch.zeros(padding.shape, device=lens.device, dtype=lens.dtype)
    return mask.masked_fill(padding, float("-inf"))[:, None, None]
