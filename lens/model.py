"""An open checkpoint: text to tokens to logits, and what happens at each head on the way.

Two roads share the weights. `Lens.model` is the plain Hugging Face model and the fast road. The
TransformerBridge, which gives every activation a name, is the reference; it is built when first used.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens.architecture import architecture_of
from lens.blocks import Block, Weight, blocks, has_twice, readied
from lens.checkpoint import Checkpoint
from lens.head import HeadGrid
from lens.versions import program_versions
from lens.weights import ChangedWeights, Seal

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import OlmoForCausalLM, PreTrainedTokenizerFast


class EmptyPrompt(ValueError):
    """A text without a single token: the model has no position to start from."""


class PromptTooLong(ValueError):
    """A text of more tokens than the model has positions."""


class Lens:
    """One open checkpoint. Reading never changes it; an edit lasts as long as its `with`."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: OlmoForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
        warnings: Sequence[str] = (),
    ) -> None:
        self.checkpoint = checkpoint
        self.model = model
        """The plain Hugging Face model, the fast road: in eval mode, without gradients for its weights."""
        self.tokenizer = tokenizer
        self.fingerprint = checkpoint.fingerprint
        """Of the model as it was when it was opened; the files may change behind an open lens."""
        self.warnings = tuple(warnings)
        """Sentences on what is odd about the model; receipts carry them."""
        self.architecture = architecture_of(model)
        n_layers, n_heads = model.config.num_hidden_layers, model.config.num_attention_heads
        self.grid = HeadGrid(
            n_layers, n_heads, cast(int, self.layer(0).get_submodule(self.architecture.attention).head_dim)
        )
        self.d_model: int = model.config.hidden_size
        self.n_context: int = model.config.max_position_embeddings
        self.eos: int = tokenizer.eos_token_id
        """Fills up rows; no position looks at it."""
        ends = model.config.eos_token_id
        self.end_tokens = frozenset(ends if isinstance(ends, list) else [ends])
        """A text ends with the first of them."""
        self._seal = Seal(model)

    @property
    def device(self) -> torch.device:
        return self.W_U.device

    @property
    def dtype(self) -> torch.dtype:
        return self.W_U.dtype

    @property
    def threads(self) -> int:
        """CPU threads that torch computes with, in this process."""
        return torch.get_num_threads()

    @property
    def n_vocab(self) -> int:
        """Rows of W_U; some may belong to no token, see `real_tokens`."""
        return self.W_U.shape[0]

    @property
    def description(self) -> dict[str, Any]:
        """What a receipt says about the model that computed."""
        odd = {"warnings": list(self.warnings)} if self.warnings else {}
        return {
            "checkpoint": self.checkpoint.name,
            "fingerprint": self.fingerprint,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "threads": self.threads,
            **odd,
        }

    @property
    def computed_with(self) -> dict[str, str | None]:
        """What a card says about how its numbers were computed, whatever the model."""
        return {"dtype": self.description["dtype"], "device": self.description["device"], **program_versions()}

    def encode(self, text: str) -> list[int]:
        """Tokens of a prompt, nothing put in front of it."""
        return self.encode_prompts([text])[0]

    def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of several, each refused if it has none or more than the model reads."""
        found = self.encode_all(texts)
        for tokens in found:
            if not tokens:
                raise EmptyPrompt("The text is empty. Write at least one word.")
            if len(tokens) > self.n_context:
                raise PromptTooLong(
                    f"The text has {len(tokens)} tokens; {self.checkpoint.name} reads at most {self.n_context}. "
                    "Shorten it."
                )
        return found

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of many texts, whatever their length."""
        for number, text in enumerate(texts):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError(f"Text {number} (counted from 0) holds half a character. Remove it.") from None
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
        """Rows of different lengths as one batch, padded on the left, and its mask: 1 where a token is real."""
        length = max(len(row) for row in rows)
        tokens = torch.tensor([[self.eos] * (length - len(row)) + list(row) for row in rows], dtype=torch.long)
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], dtype=torch.long)
        return tokens.to(self.device), mask.to(self.device)

    @torch.no_grad()
    def logits(
        self, tokens: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch pos vocab"]:
        """The reference road: through the TransformerBridge, so that edits `on_heads` act."""
        self.check_weights()
        return self._bridge(tokens, attention_mask=mask, position_ids=positions(tokens, mask), use_cache=False)

    @torch.no_grad()
    def plain_logits(
        self, tokens: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"] | None = None
    ) -> Float[Tensor, "batch pos vocab"]:
        """The fast road: the plain model, which `on_heads` does not reach."""
        self.check_weights()
        return self.model(tokens, attention_mask=mask, position_ids=positions(tokens, mask), use_cache=False).logits

    def on_heads(self, layer: int, edit: Callable[[Tensor], Tensor]) -> AbstractContextManager[Any]:
        """Inside the `with`, pass the layer's head outputs, [batch pos head d_head], through `edit`."""
        return self._edited(layer, "attn.hook_z", edit)

    def embed(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """The residual stream before the first layer."""
        return self.model.get_submodule(self.architecture.embedding)(tokens)

    def layer(self, layer: int) -> torch.nn.Module:
        """A layer of the plain model, whose output is the residual stream after it."""
        return self.architecture.layer(self.model, layer)

    def output_projection(self, layer: int) -> torch.nn.Linear:
        """What the heads of a layer write through: its input is all heads' outputs side by side."""
        return cast(torch.nn.Linear, self.layer(layer).get_submodule(self.architecture.output_projection))

    def W_O(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """How each head of a layer writes into the residual stream; a view of the plain model's weights."""
        weight = self.output_projection(layer).weight
        return weight.T.unflatten(0, (self.grid.n_heads, self.grid.d_head))

    def on_residual(self, layer: int, edit: Callable[[Tensor], Tensor]) -> AbstractContextManager[Any]:
        """Inside the `with`, pass the residual stream after the layer, [batch pos d_model], through `edit`."""
        return self._edited(layer, "hook_out", edit)

    @property
    def W_U(self) -> Float[Tensor, "vocab d_model"]:
        """How the residual stream becomes logits; the weights themselves, one row per token."""
        return self.model.get_submodule(self.architecture.unembedding).weight

    @cached_property
    def blocks(self) -> list[Block]:
        """The plain model's layers as the decoding loop runs them, on the same weights."""
        self.check_weights()
        found = blocks(self.model)
        self.check_weights()  # the seal lets go of the mapped file, too
        return found

    @cached_property
    def unembedding(self) -> Weight:
        """W_U as the decoding loop multiplies by it."""
        return readied(self.W_U, has_twice(self.model.num_parameters(), self.device, self.dtype))

    def check_weights(self) -> None:
        """Refuse a model that was changed after it was opened; everything that computes asks for this first."""
        if (changed := self._seal.change(self.model)) is not None:
            raise ChangedWeights(
                f"The open model of {self.checkpoint.name} was changed after it was opened ({changed}), and copies of "
                "its weights were not, nor were its probes, fits and fingerprint. To use the changed model, save it "
                "(lens.model.save_pretrained(FOLDER), tokenizer.json beside it) and open that folder; to use the "
                f"weights as they were, open {self.checkpoint.name} again."
            )

    def final_norm(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What stands between the last layer and W_U: in OLMo 1 a layer norm without parameters."""
        return self.model.get_submodule(self.architecture.final_norm)(x)

    @cached_property
    def real_tokens(self) -> Bool[Tensor, " vocab"]:
        """Rows of W_U that belong to a token; the matrix is padded to a round size with rows that do not."""
        real = torch.zeros(self.n_vocab, dtype=torch.bool)
        real[list(self.tokenizer.get_vocab().values())] = True
        return real

    def _edited(self, layer: int, place: str, edit: Callable[[Tensor], Tensor]) -> AbstractContextManager[Any]:
        if layer not in range(self.grid.n_layers):
            raise ValueError(f"{self.checkpoint.name} has layers 0 to {self.grid.n_layers - 1}; there is no {layer}.")
        return self._bridge.hooks(fwd_hooks=[(f"blocks.{layer}.{place}", lambda x, hook: edit(x))])

    @cached_property
    def _bridge(self) -> TransformerBridge:
        """The named road, on the plain model's own weights: the copy maps every parameter to itself."""
        from transformer_lens.model_bridge import TransformerBridge

        twin = copy.deepcopy(self.model, memo={id(weight): weight for weight in self.model.parameters()})
        for module in twin.modules():  # an edit in force on the plain model is not part of the model
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
        twin.set_attn_implementation("eager")  # the bridge computes attention itself and reads eager masks
        tokenizer = copy.deepcopy(self.tokenizer)  # the bridge gives its tokenizer a BOS and another side to pad
        bridge = TransformerBridge.boot_transformers(
            str(self.checkpoint.folder), device=str(self.device), dtype=self.dtype, hf_model=twin, tokenizer=tokenizer
        )
        # the bridge rotates queries and keys in float32, as OLMo does, but does not return to the model's dtype
        bridge.add_perma_hook(
            lambda name: name.endswith(("attn.hook_rot_q", "attn.hook_rot_k")), lambda x, hook: x.to(self.dtype)
        )
        return bridge.eval()


def positions(tokens: Int[Tensor, "batch pos"], mask: Int[Tensor, "batch pos"] | None) -> Int[Tensor, "batch pos"]:
    """Position of every token in its own row, counted from its first real one."""
    if mask is None:
        return torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
