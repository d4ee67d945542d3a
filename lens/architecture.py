"""Where a model family keeps its parts: the one file of ours that spells a module's path.

Paths are those of the Hugging Face model; `lens.model` resolves them. A new family is a record here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Architecture:
    """Paths of one family's modules, from the model down, and from one of its layers down."""

    model_type: str
    """As in the `model_type` of config.json."""
    name: str
    body: str
    """All but the unembedding: gives hidden states."""
    embedding: str
    layers: str
    final_norm: str
    unembedding: str
    rotary: str
    attention: str
    """In a layer."""
    queries_keys_values: tuple[str, str, str]
    """In a layer."""
    output_projection: str
    """In a layer: W_O, whose input is every head's output side by side."""
    gate_up_down: tuple[str, str, str]
    """In a layer: the projections of the MLP."""
    activation: str
    """In a layer: the MLP's nonlinearity."""

    def layer(self, model: nn.Module, layer: int) -> nn.Module:
        return model.get_submodule(f"{self.layers}.{layer}")

    def attention_parameters(self, layer: int, kind: str) -> Iterable[str]:
        """Names of all weights or biases (`kind`) of a layer's attention, as in the model's state dict."""
        for path in (*self.queries_keys_values, self.output_projection):
            yield f"{self.layers}.{layer}.{path}.{kind}"

    def output_parameter(self, layer: int, kind: str) -> str:
        """Name of the weight or bias (`kind`) of a layer's output projection."""
        return f"{self.layers}.{layer}.{self.output_projection}.{kind}"


OLMO = Architecture(
    "olmo",
    "OLMo 1",
    body="model",
    embedding="model.embed_tokens",
    layers="model.layers",
    final_norm="model.norm",
    unembedding="lm_head",
    rotary="model.rotary_emb",
    attention="self_attn",
    queries_keys_values=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    output_projection="self_attn.o_proj",
    gate_up_down=("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    activation="mlp.act_fn",
)
ARCHITECTURES = {record.model_type: record for record in (OLMO,)}
"""By `model_type`: the families that can be opened."""


def architecture_of(model: nn.Module) -> Architecture:
    """The record of an open model."""
    return ARCHITECTURES[model.config.model_type]  # type: ignore[union-attr,index]
