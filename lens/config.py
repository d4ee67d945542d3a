"""The numbers of a `config.json` that act, checked one by one: nothing else in the file reaches the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens.architecture import OLMO
from lens.reading import BrokenCheckpoint, is_there, read_json_object, shorten

if TYPE_CHECKING:
    from transformers import OlmoConfig

CONFIG, GENERATION_CONFIG = "config.json", "generation_config.json"
LARGEST = 2**40
"""Bound of every size: what is larger is a damaged number."""
LONGEST = 2**20
"""Positions at most: caches and tables of rotations are made for them, and no weight tells a wrong number."""
DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 50304,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "hidden_act": "silu",
    "eos_token_id": 50279,
}
"""What transformers' OlmoConfig takes where the file is silent."""
ROPE_THETA = 10000.0


@dataclass(frozen=True)
class ModelConfig:
    """An OLMo's shape and rules, by Hugging Face's names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    hidden_act: str
    tie_word_embeddings: bool
    attention_bias: bool
    clip_qkv: float | None
    rope_parameters: Mapping[str, Any]
    pad_token_id: int | None
    eos_token_id: tuple[int, ...]
    """Every token that ends a text: those of `config.json`, then further ones of `generation_config.json`."""

    @classmethod
    def read(cls, folder: Path) -> ModelConfig:
        """The config of a folder; every number is checked before anything is built from it."""
        path = folder / CONFIG
        content = read_json_object(path, "the model's shape, written by training or by `save_pretrained`")
        if (kind := content.get("model_type")) != "olmo":
            raise BrokenCheckpoint(
                f"{path} describes a {str(kind)[:40]!r} model; Hormesis opens 'olmo' folders (OLMo 1). "
                "Convert the model with transformers, or choose another folder."
            )
        fields = _Fields(path, content)
        heads, width = fields.whole("num_attention_heads"), fields.whole("hidden_size")
        key_heads = fields.whole("num_key_value_heads", default=heads)
        if width % heads or heads % key_heads or (width // heads) % 2:
            raise fields.refusal(
                f"hidden_size {width}, num_attention_heads {heads} and num_key_value_heads {key_heads} do not divide "
                "into heads of an even size"
            )
        if content.get("head_dim") not in (None, width // heads):
            raise fields.refusal(f'"head_dim" is not {width // heads}, as it is in every OLMo 1 of this shape')
        if content.get("quantization_config") is not None:
            raise fields.refusal("the weights are quantised, and Hormesis opens plain floating-point weights")
        return cls(
            vocab_size=(n_vocab := fields.whole("vocab_size")),
            hidden_size=width,
            intermediate_size=fields.whole("intermediate_size"),
            num_hidden_layers=fields.whole("num_hidden_layers"),
            num_attention_heads=heads,
            num_key_value_heads=key_heads,
            max_position_embeddings=fields.whole("max_position_embeddings", most=LONGEST),
            hidden_act=fields.activation(),
            tie_word_embeddings=fields.switch("tie_word_embeddings"),
            attention_bias=fields.switch("attention_bias"),
            clip_qkv=fields.clip(),
            rope_parameters=fields.rope(),
            pad_token_id=fields.padding(n_vocab),
            eos_token_id=_end_tokens(folder, fields, n_vocab),
        )

    @property
    def canonical(self) -> dict[str, Any]:
        """What decides the model's numbers, the same for every spelling, ready for JSON.

        Which tokens end a text decides none: probes stay as good when a wrong end token is corrected.
        """
        return {name: value for name, value in asdict(self).items() if name not in ("pad_token_id", "eos_token_id")}

    @property
    def n_tensors(self) -> int:
        """How many tensors such a model is made of."""
        return 2 - self.tie_word_embeddings + self.num_hidden_layers * (11 if self.attention_bias else 7)

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor that such a model is made of."""
        width, inner = self.hidden_size, self.intermediate_size
        keys = width // self.num_attention_heads * self.num_key_value_heads
        attention = (*OLMO.queries_keys_values, OLMO.output_projection)
        square, narrow = (width, width), (keys, width)
        attended = list(zip(attention, (square, narrow, narrow, square), strict=True))
        mlp = list(zip(OLMO.gate_up_down, ((inner, width), (inner, width), (width, inner)), strict=True))
        yield f"{OLMO.embedding}.weight", (self.vocab_size, width)
        if not self.tie_word_embeddings:
            yield f"{OLMO.unembedding}.weight", (self.vocab_size, width)
        for layer in range(self.num_hidden_layers):
            for path, shape in (*attended, *mlp):
                yield f"{OLMO.layers}.{layer}.{path}.weight", shape
            if self.attention_bias:
                for path, shape in attended:
                    yield f"{OLMO.layers}.{layer}.{path}.bias", shape[:1]

    def to_hugging_face(self) -> OlmoConfig:
        """The same as transformers wants it."""
        from transformers import OlmoConfig

        first, *more = self.eos_token_id
        ends = list(self.eos_token_id) if more else first
        return OlmoConfig(**{**asdict(self), "eos_token_id": ends}, architectures=["OlmoForCausalLM"])


class _Fields:
    """Typed reading of one file's numbers; each refusal names the file and the field."""

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        self.path, self.content = path, content

    def refusal(self, what: str) -> BrokenCheckpoint:
        return BrokenCheckpoint(
            f"{self.path}: {what}. Copy config.json and the weights from one source, or export again."
        )

    def whole(self, name: str, default: int | None = None, most: int = LARGEST) -> int:
        value = self.content.get(name)
        value = DEFAULTS.get(name, default) if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self.refusal(f'"{name}" is a whole number from 1 to {most:,}; got {shorten(value)}')
        return value

    def switch(self, name: str) -> bool:
        value = self.content.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.refusal(f'"{name}" is true or false; got {shorten(value)}')
        return bool(value)

    def activation(self) -> str:
        value = self.content.get("hidden_act", DEFAULTS["hidden_act"])
        if value not in ("silu", "swish"):
            raise self.refusal(f'"hidden_act" is "silu" in every OLMo 1; got {shorten(value)}')
        return "silu"

    def clip(self) -> float | None:
        value = self.content.get("clip_qkv")
        if value is not None and not _is_positive(value):
            raise self.refusal(f'"clip_qkv" is null or a positive number; got {shorten(value)}')
        return None if value is None else float(value)

    def rope(self) -> dict[str, Any]:
        """Rotary embedding in the newer spelling; the older one has its base and its scaling side by side."""
        found = self.content.get("rope_scaling") or self.content.get("rope_parameters") or {}
        if not isinstance(found, dict) or not all(map(_is_finite, found.values())):
            raise self.refusal(f'"rope_parameters" is an object of names and numbers; got {shorten(found)}')
        bases = found.get("rope_theta"), self.content.get("rope_theta"), ROPE_THETA
        base = next(one for one in bases if one is not None)
        if not _is_positive(base) or base < 1:
            raise self.refusal(f'"rope_theta" is a number from 1 up; got {shorten(base)}')
        kind = found.get("rope_type", found.get("type", "default"))
        rest = {name: float(value) if _is_number(value) else value for name, value in found.items() if name != "type"}
        return {**rest, "rope_type": kind, "rope_theta": float(base)}

    def padding(self, n_vocab: int) -> int | None:
        """The token that pads; no padding is looked at, so that a wrong one is left out."""
        value = self.content.get("pad_token_id")
        return value if type(value) is int and 0 <= value < n_vocab else None

    def ends(self, n_vocab: int) -> list[int]:
        """The tokens that end a text; an id, or a list of ids."""
        value = self.content.get("eos_token_id", DEFAULTS["eos_token_id"])
        ids = value if isinstance(value, list) else [value]
        if not ids or not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < n_vocab for one in ids):
            raise BrokenCheckpoint(
                f'{self.path}: "eos_token_id" is the id of the token that ends a text, from 0 to {n_vocab - 1:,}, or a '
                f'list of such ids; got {shorten(value)}. Set "eos_token_id" to the id of the end-of-text token.'
            )
        return ids


def _end_tokens(folder: Path, fields: _Fields, n_vocab: int) -> tuple[int, ...]:
    ids, path = fields.ends(n_vocab), folder / GENERATION_CONFIG
    if is_there(path):
        more = _Fields(path, read_json_object(path, "how transformers generates"))
        ids = ids + (more.ends(n_vocab) if more.content.get("eos_token_id") is not None else [])
    return tuple(dict.fromkeys(ids))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and _is_finite(value) and value > 0


def _is_finite(value: Any) -> bool:
    """Whether it is no number, or one that a float can hold; in lists, every one."""
    if isinstance(value, list):
        return all(map(_is_finite, value))
    if not _is_number(value):
        return not isinstance(value, dict)
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False
