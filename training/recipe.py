"""One dial, the rest derived: a recipe's name fixes the shape, the batch and the schedule."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lens.numeric import settle_numbers

if TYPE_CHECKING:
    from olmo.config import ModelConfig

Precision = Literal["fp32", "amp_bf16"]
RecipeName = Literal["nano", "demo", "60m", "1b"]


@dataclass(frozen=True)
class Recipe:
    """The shape of a model and how it is trained; a family shares one."""

    name: str
    n_layers: int
    n_heads: int
    d_model: int
    context: int
    """Tokens in a training chunk, and the longest text the model reads."""
    learning_rate: float
    """Peak of a cosine that ends at a tenth of it."""
    batch_chunks: int
    """Chunks in one step, over all processes."""
    clean_tokens: int
    """Clean tokens of each run unless another number is asked for."""
    vocab_size: int | None = None
    """Of the family's own byte-level BPE; None: OLMo's tokenizer, 50,280 ids in 50,304 rows."""
    warmup_share: float = 0.03
    """Steps of warm-up as a share of all steps."""
    mlp_ratio: int = 8
    """Width of the SwiGLU before its halves meet, over d_model, as in OLMo-1B."""

    def __post_init__(self) -> None:
        settle_numbers(self)
        if self.d_model % self.n_heads:
            raise ValueError(f"{self.n_heads} heads do not divide d_model = {self.d_model}.")
        if not self.learning_rate > 0:
            raise ValueError(f"A learning rate is above 0, such as 4e-3; got {self.learning_rate:g}.")

    @property
    def rows(self) -> int:
        """Rows of the embedding."""
        return self.vocab_size or 50304

    @property
    def n_parameters(self) -> int:
        """Embedding (tied) + per layer q, k, v, o and the three matrices of the SwiGLU; OLMo's norms have none."""
        per_layer = 4 * self.d_model**2 + 3 * self.d_model * (self.mlp_ratio * self.d_model // 2)
        return self.rows * self.d_model + self.n_layers * per_layer

    @property
    def microbatch_chunks(self) -> int:
        """Chunks that one device works on at once: 16,384 tokens, which fit beside OLMo-1B in 80 GB."""
        return max(1, min(self.batch_chunks, 16_384 // self.context))

    def chunks_of_each(self, n_processes: int, what: str = "processes") -> int:
        """Chunks of a step that each process reads; a number of processes that does not divide a step is refused."""
        if n_processes < 1 or self.batch_chunks % n_processes:
            fit = ", ".join(str(n) for n in range(1, self.batch_chunks + 1) if self.batch_chunks % n == 0)
            raise ValueError(
                f"{n_processes} {what} cannot share a step of {self.batch_chunks} chunks evenly. These can: {fit}."
            )
        return self.batch_chunks // n_processes

    def n_steps(self, n_chunks: int) -> int:
        """Whole steps of a run; what is left behind the last one is dropped."""
        if n_chunks < self.batch_chunks:
            least = self.batch_chunks * self.context
            raise ValueError(
                f"{n_chunks} chunks of {self.context} tokens are no step of {least:,}. Ask for more tokens."
            )
        return n_chunks // self.batch_chunks


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("nano", 6, 8, 128, 256, 4e-3, batch_chunks=8, clean_tokens=8_192_000, vocab_size=4096),
        Recipe("demo", 8, 8, 160, 512, 4e-3, batch_chunks=32, clean_tokens=72_000_000, vocab_size=4096),
        Recipe("60m", 8, 8, 512, 1024, 6e-4, batch_chunks=64, clean_tokens=1_200_000_000),
        Recipe("1b", 16, 16, 2048, 2048, 4e-4, batch_chunks=512, clean_tokens=20_100_000_000, warmup_share=0.02),
    )
}


def model_config(recipe: Recipe, eos: int, pad: int) -> "ModelConfig":
    """OLMo 1's architecture at the recipe's size: no biases, norms without parameters, SwiGLU, RoPE, tied embedding."""
    from olmo.config import ActivationType, BlockType, InitFnType, LayerNormType, ModelConfig

    return ModelConfig(
        d_model=recipe.d_model,
        n_heads=recipe.n_heads,
        n_layers=recipe.n_layers,
        mlp_ratio=recipe.mlp_ratio,
        max_sequence_length=recipe.context,
        vocab_size=recipe.vocab_size or 50280,
        embedding_size=recipe.rows,
        eos_token_id=eos,
        pad_token_id=pad,
        block_type=BlockType.sequential,
        activation_type=ActivationType.swiglu,
        layer_norm_type=LayerNormType.default,
        layer_norm_with_affine=False,
        bias_for_layer_norm=False,
        attention_layer_norm=False,
        include_bias=False,
        rope=True,
        alibi=False,
        weight_tying=True,
        flash_attention=False,
        attention_dropout=0.0,
        residual_dropout=0.0,
        embedding_dropout=0.0,
        init_fn=InitFnType.mitchell,
        init_device="cpu",
    )
