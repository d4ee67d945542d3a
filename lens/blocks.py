"""OLMo's layers as a few matrix products, on the plain model's own weights.

At the size of the demo checkpoints a token costs more Python than arithmetic, so queries, keys and values come from one
product and the MLP's two inner projections from another. The fused matrices take the place of the weights they are made
of, which become views of them. All other weights move, too, from the mapped file into memory, which is faster to read,
and the file is let go. A CPU keeps the matrices of a small model packed for oneDNN as well. A lens refuses a model
whose weights change afterwards (lens/weights.py). The plain model stays the path that tests hold this one to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

from lens.architecture import architecture_of
from lens.onednn import PRIVATE, onednn_formats

if TYPE_CHECKING:
    from transformers import OlmoForCausalLM

Rotary = tuple[Float[Tensor, "... pos 1 d_head"], Float[Tensor, "... pos 1 d_head"]]
"""Cosines and signed sines of each row's positions, or of the positions of all rows."""
LARGE = 2**18
"""Multiplications from which on oneDNN is faster."""
PACKED = 2**28
"""Bytes of a model in float32 up to which a CPU keeps its matrices as oneDNN reads them fastest, too."""
SHORT = 64
"""Positions up to which plain products are faster on a CPU than the fused kernel, which its threads hardly share."""


@runtime_checkable
class Attention(Protocol):
    """How new positions see others."""

    def attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """What each position takes from those it sees, [row head pos d_head]; without a mask, all earlier ones."""


@runtime_checkable
class Cache(Attention, Protocol):
    """Keys and values of the positions so far; new ones go behind them and see all."""

    filled: int

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only."""


class OnePass:
    """All positions come at once, so that nothing has to be kept."""

    def attend(
        self,
        layer: int,
        queries: Float[Tensor, "row head pos d_head"],
        keys: Float[Tensor, "row kv_head pos d_head"],
        values: Float[Tensor, "row kv_head pos d_head"],
        mask: Tensor | None,
    ) -> Float[Tensor, "row head pos d_head"]:
        n, alike = queries.shape[2], queries.shape[1] == keys.shape[1]
        if n > SHORT or not alike or queries.device.type != "cpu" or queries.dtype != torch.float32:
            return attended(queries, keys, values, mask)
        hidden = torch.ones(n, n, dtype=torch.bool).triu(1) if mask is None else ~mask
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(2, 3)
        return scores.masked_fill_(hidden, -torch.inf).softmax(dim=-1) @ values


class RowCache:
    """Keys and values of every layer, with room for all tokens to come."""

    def __init__(self, shape: Sequence[int], n_layers: int, device: torch.device, dtype: torch.dtype) -> None:
        """`shape`: rows, key heads, positions, d_head."""
        self.layers = [torch.zeros(2, *shape, device=device, dtype=dtype) for _ in range(n_layers)]
        self.filled = 0
        """Positions that hold something; the same in every layer between two passes."""

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put new positions behind the filled ones; all of them so far, [row head pos d_head]."""
        end = self.filled + keys.shape[2]
        room = self.layers[layer]
        room[0, :, :, self.filled : end] = keys
        room[1, :, :, self.filled : end] = values
        return room[0, :, :, :end], room[1, :, :, :end]

    def attend(
        self,
        layer: int,
        queries: Float[Tensor, "row head pos d_head"],
        keys: Float[Tensor, "row kv_head pos d_head"],
        values: Float[Tensor, "row kv_head pos d_head"],
        mask: Tensor | None,
    ) -> Float[Tensor, "row head pos d_head"]:
        return attended(queries, *self.extend(layer, keys, values), mask)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        for number in range(len(self.layers)):  # one after the other, so that little is there twice
            self.layers[number] = self.layers[number][:, rows]


class StillCache:
    """A RowCache in use of which nothing in Python changes from step to step, so that a GPU can replay one.

    One new position of each row at a time; all of the room is looked at, and a mask hides what is not filled yet.
    """

    def __init__(self, cache: RowCache, mask: Float[Tensor, "row 1 1 pos"] | None) -> None:
        """`mask`: -inf where a row is padded; None: none is."""
        self.layers, room = cache.layers, cache.layers[0]
        self.filled = torch.tensor([cache.filled], device=room.device)
        ahead = torch.arange(room.shape[-2], device=room.device) >= self.filled
        mask = room.new_zeros(room.shape[1], 1, 1, room.shape[-2]) if mask is None else mask
        self._mask = mask.masked_fill(ahead, -torch.inf)

    def mask(self) -> Float[Tensor, "row 1 1 pos"]:
        """What to add to a new token's scores, which sees itself, as all that follow will."""
        return self._mask.index_fill_(-1, self.filled, 0.0)

    def attend(
        self,
        layer: int,
        queries: Float[Tensor, "row head 1 d_head"],
        keys: Float[Tensor, "row kv_head 1 d_head"],
        values: Float[Tensor, "row kv_head 1 d_head"],
        mask: Tensor | None,
    ) -> Float[Tensor, "row head 1 d_head"]:
        room = self.layers[layer]
        room[0].index_copy_(2, self.filled, keys)
        room[1].index_copy_(2, self.filled, values)
        return attended(queries, room[0], room[1], mask)


@dataclass(frozen=True, eq=False)
class Weight:
    """A matrix that activations are multiplied by."""

    plain: Float[Tensor, "d_out d_in"]
    """The model's own numbers."""
    packed: Tensor | None
    """The same in oneDNN's own order, of a small model."""


@dataclass(frozen=True, eq=False)
class Block:
    """One layer."""

    qkv: Weight  # [q_k_v d_model]
    o: Weight  # [d_model heads_d_head]
    gate_up: Weight  # [2*d_mlp d_model]
    down: Weight  # [d_model d_mlp]
    qkv_bias: Float[Tensor, " q_k_v"] | None
    o_bias: Float[Tensor, " d_model"] | None
    act: Callable[[Tensor], Tensor]
    clip: float | None
    n_heads: int
    n_kv_heads: int
    d_head: int

    def heads(
        self, x: Float[Tensor, "row pos d_model"], rotary: Rotary, others: Attention, layer: int, mask: Tensor | None
    ) -> Float[Tensor, "row pos heads_d_head"]:
        """What the heads hand to `o_proj`."""
        n_rows, n_new = x.shape[:2]
        qkv = product(normed(x), self.qkv, self.qkv_bias)
        if self.clip is not None:
            qkv = qkv.clamp_(-self.clip, self.clip)
        qkv = qkv.view(n_rows, n_new, -1, self.d_head)
        turned = rotated(qkv[:, :, : -self.n_kv_heads], *rotary).transpose(1, 2)
        values = qkv[:, :, -self.n_kv_heads :].transpose(1, 2)
        z = others.attend(layer, turned[:, : self.n_heads], turned[:, self.n_heads :], values, mask)
        return z.transpose(1, 2).reshape(n_rows, n_new, -1)

    def written(self, z: Float[Tensor, "row pos heads_d_head"]) -> Float[Tensor, "row pos d_model"]:
        """What the heads' outputs become behind `o_proj`."""
        return product(z, self.o, self.o_bias)

    def mlp(self, x: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos d_model"]:
        gate, up = product(normed(x), self.gate_up).chunk(2, dim=-1)
        return product(self.act(gate) * up, self.down)


@torch.inference_mode(False)  # weights made inside it could never have gradients again
def blocks(model: OlmoForCausalLM) -> list[Block]:
    """The model's layers, from the embedding's side; call it when the model is where it will stay."""
    config, parts = model.config, architecture_of(model)
    d_head = cast(int, parts.layer(model, 0).get_submodule(parts.attention).head_dim)
    shape = config.clip_qkv, config.num_attention_heads, config.num_key_value_heads, d_head
    found, twice = [], has_twice(model.num_parameters(), model.device, model.dtype)
    for layer in model.get_submodule(parts.layers):
        projections = [layer.get_submodule(path) for path in parts.queries_keys_values]
        mlp = [layer.get_submodule(path) for path in parts.gate_up_down]
        together = projections, [layer.get_submodule(parts.output_projection)], mlp[:2], mlp[2:]
        qkv, o, gate_up, down = (readied(fused([one.weight for one in ones]), twice) for ones in together)
        qkv_bias, o_bias = (
            None if ones[0].bias is None else fused([one.bias for one in ones]) for ones in together[:2]
        )
        act = layer.get_submodule(parts.activation)
        found.append(Block(qkv, o, gate_up, down, qkv_bias, o_bias, act, *shape))
    ends = (model.get_submodule(path).weight for path in (parts.embedding, parts.unembedding))
    for weight in set(ends):  # one, where they are tied
        fused([weight])
    return found


def fused(parts: Sequence[torch.nn.Parameter]) -> Tensor:
    """Weights or biases of one input as a single tensor of its own, of which the parts are views from then on."""
    whole = torch.cat([part.data for part in parts])
    for part, view in zip(parts, whole.split([len(part) for part in parts]), strict=True):
        part.data = view
    return whole


def readied(plain: Float[Tensor, "d_out d_in"], twice: bool) -> Weight:
    """A matrix of a model, packed as well if the model has its matrices twice."""
    return Weight(plain, PRIVATE.pack(plain) if twice else None)


def has_twice(n_parameters: int, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a model of so many parameters has its matrices twice."""
    small = n_parameters * dtype.itemsize <= PACKED and device.type == "cpu" and dtype == torch.float32
    return small and dtype in onednn_formats()


def product(
    x: Float[Tensor, "*batch d_in"], weight: Weight, bias: Float[Tensor, " d_out"] | None = None
) -> Float[Tensor, "*batch d_out"]:
    """x · weightᵀ + bias. On a CPU oneDNN multiplies where its calls cost less than they save. No gradients."""
    large = x.numel() * len(weight.plain) >= LARGE
    if large and x.device.type == "cpu" and x.dtype in onednn_formats():
        return PRIVATE.multiply(x, weight.plain if weight.packed is None else weight.packed, bias)
    return linear(x, weight.plain, bias)


def normed(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """OLMo 1's layer norm: no parameters, in float32."""
    return layer_norm(x.float(), x.shape[-1:], eps=1e-5).to(x.dtype)


def rotated(x: Float[Tensor, "row pos head d_head"], cos: Tensor, sin: Tensor) -> Float[Tensor, "row pos head d_head"]:
    """Queries or keys turned by their positions: the second half of each head, sign changed, joins the first."""
    return (x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin).to(x.dtype)


def rotary_table(model: OlmoForCausalLM, n_positions: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines of positions 0 to n - 1, [pos 1 d_head], to be indexed by row and position."""
    parts = architecture_of(model)
    weight = model.get_submodule(parts.unembedding).weight
    here = torch.arange(n_positions, device=weight.device)[None]
    cos, sin = (table[0][:, None] for table in model.get_submodule(parts.rotary)(weight, here))
    half = sin.shape[-1] // 2
    return cos, torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)


def attended(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """What `Attention.attend` gives, by torch's fused kernel."""
    causal, grouped = mask is None and queries.shape[2] > 1, queries.shape[1] != keys.shape[1]
    return scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=grouped)


def sight(real: Int[Tensor, "row pos"]) -> Bool[Tensor, "row 1 pos pos"] | None:
    """Which positions each one sees in rows padded on the left: earlier real ones; None where nothing is padding."""
    if bool(real.all()):
        return None
    causal = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool, device=real.device).tril()
    itself = torch.eye(real.shape[1], dtype=torch.bool, device=real.device)  # padding must see something
    return (causal & real.bool()[:, None, None]) | itself
