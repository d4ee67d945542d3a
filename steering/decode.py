"""The decoding loop's forward passes: Hugging Face's own layers, without what `forward` repeats for every token.

At the size of the demo checkpoints a token costs more Python than arithmetic. The rotary table, the padding mask and
room for all keys and values are made once per batch; each step then only runs the embedding, the layers and the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens import Lens


class RowCache:
    """Keys and values of every layer, with room for all tokens to come.

    The layers only ever call `update`, with one new position for every row.
    """

    def __init__(self, keys: list[Float[Tensor, "row head pos d_head"]], values: list[Tensor], filled: int) -> None:
        self.keys = keys
        self.values = values
        self.filled = filled
        """Positions that hold something; the same in every layer between two steps."""

    def update(self, keys: Tensor, values: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        end = self.filled + 1
        all_keys, all_values = self.keys[layer_idx][:, :, :end], self.values[layer_idx][:, :, :end]
        all_keys[:, :, -1:] = keys
        all_values[:, :, -1:] = values
        return all_keys, all_values

    def keep(self, rows: Int[Tensor, "kept"]) -> None:
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]


class Decoder:
    """A batch of rows that grow by a token at a time, each behind one of a few shared beginnings."""

    @torch.inference_mode()
    def __init__(self, lens: Lens, prefixes: Sequence[Sequence[int]], prefix_of: Sequence[int], n_steps: int) -> None:
        """`prefixes` are all but the last token of the prompts, read once each; row r continues `prefix_of[r]`."""
        self._lens = lens
        self._layers = list(lens.model.model.layers)
        prefix = torch.tensor(prefix_of, device=lens.device)
        self._cache = _prefill(lens, prefixes, prefix, n_steps)
        lengths = torch.tensor([len(tokens) for tokens in prefixes], device=lens.device)
        self._positions = lengths[prefix]
        width = self._cache.filled + n_steps
        self._rotary = _rotary_table(lens, width)
        self._mask = _padding_mask(lens, self._cache.filled - self._positions, width)

    @torch.inference_mode()
    def step(self, tokens: Int[Tensor, "row"]) -> Float[Tensor, "row vocab"]:
        """Read each row's next token; logits of the one after."""
        model, cache = self._lens.model, self._cache
        hidden = model.model.embed_tokens(tokens[:, None])
        cos, sin = self._rotary
        rotary = cos[self._positions], sin[self._positions]
        mask = None if self._mask is None else self._mask[..., : cache.filled + 1]
        for layer in self._layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary, past_key_values=cache)
        cache.filled += 1
        self._positions = self._positions + 1
        return model.lm_head(model.model.norm(hidden)).squeeze(1)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        kept = torch.tensor(rows, device=self._lens.device)
        self._cache.keep(kept)
        self._positions = self._positions[kept]
        self._mask = None if self._mask is None else self._mask[kept]


def _prefill(lens: Lens, prefixes: Sequence[Sequence[int]], prefix_of: Int[Tensor, "row"], n_steps: int) -> RowCache:
    """Read each prefix once, padded on the left, and give every row a copy of its keys and values with room to grow."""
    from transformers import DynamicCache

    filled = max(len(tokens) for tokens in prefixes)
    n_rows, n_kv_heads = len(prefix_of), lens.model.config.num_key_value_heads
    shape = (n_rows, n_kv_heads, filled + n_steps, lens.grid.d_head)
    room = [torch.empty(2, *shape, device=lens.device, dtype=lens.dtype) for _ in range(lens.grid.n_layers)]
    if filled:
        tokens, mask = lens.pad(prefixes)
        read = DynamicCache(config=lens.model.config)
        padded = None if bool(mask.all()) else mask
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        lens.model.model(tokens, attention_mask=padded, position_ids=positions, past_key_values=read, use_cache=True)
        for both, layer in zip(room, read.layers, strict=True):
            both[0, :, :, :filled] = layer.keys[prefix_of]
            both[1, :, :, :filled] = layer.values[prefix_of]
    return RowCache([both[0] for both in room], [both[1] for both in room], filled)


def _rotary_table(lens: Lens, n_positions: int) -> tuple[Float[Tensor, "pos 1 d_head"], Float[Tensor, "pos 1 d_head"]]:
    """Cosine and sine for every position a row can reach."""
    positions = torch.arange(n_positions, device=lens.device)[None]
    cos, sin = lens.model.model.rotary_emb(lens.W_U, positions)
    return cos[0][:, None], sin[0][:, None]


def _padding_mask(lens: Lens, n_padding: Int[Tensor, "row"], width: int) -> Float[Tensor, "row 1 1 pos"] | None:
    """What to add to the attention scores, so that no row sees its padding; None where no row has any."""
    if not bool(n_padding.any()):
        return None
    padding = torch.arange(width, device=lens.device) < n_padding[:, None]
    mask = torch.zeros(padding.shape, device=lens.device, dtype=lens.dtype)
    return mask.masked_fill(padding, float("-inf"))[:, None, None]
