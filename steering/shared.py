"""Many rows behind few beginnings: each beginning is held once and read once for all rows that go on from it.

A row's attention over its beginning and its attention over its own tokens are two softmaxes over one set of scores;
together they are what one softmax over all of them gives, once each is weighted by the sum of its exponentials. So the
beginning counts as one more position, whose score is the logarithm of that sum and whose value is what it gave.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens.blocks import RowCache


class Part(NamedTuple):
    """Beginnings that were read together and that equally many rows go on from."""

    rows: Int[Tensor, " prefix_row"]
    """The rows of the first beginning, those of the second, and so on."""
    layers: list[tuple[Tensor, Tensor]]
    """Of each layer, keys [prefix kv_head d_head pos], divided by √d_head, and values [prefix kv_head pos d_head]."""
    hidden: Float[Tensor, "prefix 1 1 pos"] | None
    """-inf where a shorter beginning is padded on the left; None: none is."""


class SharedCache:
    """Keys and values of every layer, for rows that share beginnings; in float32 whatever the model's format is."""

    def __init__(
        self,
        read: Sequence[tuple[RowCache, Sequence[int]]],
        begins: Int[Tensor, "row 2"],
        n_steps: int,
    ) -> None:
        """`read`: beginnings, padded on the left, with their lengths. `begins`: of each row, in which of these caches
        and at which place its beginning lies."""
        self._read, self._begins = read, begins
        (first, _), self.filled = read[0], 0
        _, _, n_heads, _, d_head = first.layers[0].shape
        room = n_steps, len(begins), n_heads, d_head
        self._own = [torch.zeros(2, *room, device=begins.device) for _ in first.layers]
        """Keys and values of the rows' own tokens, [step row kv_head d_head]: sums over steps are fastest this way."""
        self._line_up()

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        self._begins = self._begins[rows]
        self._own = [own[:, :, rows] for own in self._own]
        self._line_up()

    def attend(
        self,
        layer: int,
        queries: Float[Tensor, "row head 1 d_head"],
        keys: Float[Tensor, "row kv_head 1 d_head"],
        values: Float[Tensor, "row kv_head 1 d_head"],
        mask: Tensor | None,
    ) -> Float[Tensor, "row head 1 d_head"]:
        """One new position of each row sees the row's beginning and its own tokens."""
        own, end = self._own[layer], self.filled + 1
        own[0, self.filled], own[1, self.filled] = keys.squeeze(2), values.squeeze(2)
        n_rows, n_heads, _, d_head = queries.shape
        # [row kv_head query d_head]: queries that share keys and values stand together
        asked = queries.float().reshape(n_rows, keys.shape[1], -1, d_head)
        log_sum, given = self._beginnings(layer, asked)
        scores = (own[0, :end, :, :, None] * (asked * d_head**-0.5)).sum(dim=-1)
        weights = torch.cat([log_sum[None], scores]).softmax(dim=0)[..., None]
        z = weights[0] * given + (weights[1:] * own[1, :end, :, :, None]).sum(dim=0)
        return z.reshape(n_rows, n_heads, 1, d_head).to(queries.dtype)

    def _beginnings(
        self, layer: int, queries: Float[Tensor, "row kv_head query d_head"]
    ) -> tuple[Float[Tensor, "row kv_head query"], Float[Tensor, "row kv_head query d_head"]]:
        """What rows see of their beginnings alone, and the logarithm of the sum of its weights."""
        given, log_sum = torch.zeros_like(queries), torch.full_like(queries[..., 0], -torch.inf)
        for part in self._parts:
            keys, values = part.layers[layer]
            asked = (
                queries[part.rows].view(len(keys), -1, *queries.shape[1:]).transpose(1, 2)
            )  # [prefix kv_head row query d_head]
            scores = asked.flatten(2, 3) @ keys
            if part.hidden is not None:
                scores += part.hidden
            top = scores.amax(dim=-1, keepdim=True)
            weights = scores.sub_(top).exp_()
            sums = weights.sum(dim=-1, keepdim=True)
            found = (weights @ values).div_(sums)
            given[part.rows] = found.view_as(asked).transpose(1, 2).reshape(-1, *queries.shape[1:])
            found = (top + sums.log()).view(*asked.shape[:-1], 1).transpose(1, 2)
            log_sum[part.rows] = found.reshape(-1, *queries.shape[1:-1])
        return log_sum, given

    def _line_up(self) -> None:
        """Which rows go on from which beginnings, as few products as there are numbers of rows per beginning."""
        rows_of: dict[tuple[int, int], list[int]] = {}
        for row, (cache, place) in enumerate(self._begins.tolist()):
            if self._read[cache][1][place]:  # a prompt of one token has nothing before it
                rows_of.setdefault((cache, place), []).append(row)
        alike: dict[tuple[int, int], list[tuple[int, list[int]]]] = {}
        for (cache, place), rows in rows_of.items():
            alike.setdefault((cache, len(rows)), []).append((place, rows))
        self._parts = [self._part(cache, found) for (cache, _), found in alike.items()]

    def _part(self, number: int, found: list[tuple[int, list[int]]]) -> Part:
        cache, lengths = self._read[number]
        device, places = self._begins.device, torch.tensor([place for place, _ in found], device=self._begins.device)
        kept = torch.tensor([lengths[place] for place, _ in found], device=device)
        n_padding = cache.filled - kept
        first = int(n_padding.min())
        layers = []
        for layer in cache.layers:
            keys, values = layer[:, places, :, first : cache.filled].float()
            layers.append(((keys * keys.shape[-1] ** -0.5).transpose(2, 3).contiguous(), values.contiguous()))
        hidden = None
        if bool((n_padding > first).any()):
            padding = torch.arange(first, cache.filled, device=device) < n_padding[:, None]
            hidden = torch.zeros(padding.shape, device=device).masked_fill(padding, -torch.inf)[:, None, None]
        return Part(torch.tensor([row for _, rows in found for row in rows], device=device), layers, hidden)
