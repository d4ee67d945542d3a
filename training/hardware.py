"""What a recipe asks of a GPU: arithmetic per token and bytes of memory, before anything is built."""

from dataclasses import dataclass
from typing import Literal

from training.recipe import Recipe

DeviceName = Literal["h100", "h200", "b200", "a100", "a100-40", "l40s", "rtx4090", "cpu"]
Strategy = Literal["ddp", "fsdp"]
RESERVED = 0.08
"""Share of a GPU's memory left to CUDA, NCCL and gaps between tensors."""


@dataclass(frozen=True)
class Device:
    """What one process runs on; the makers' own figures."""

    name: DeviceName
    flops: float
    """Peak of bfloat16 matrix products per second, summed in float32, without sparsity; 0: not known."""
    memory: float
    """Bytes; 0: not checked."""


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device("h100", 989.4e12, 80e9),
        Device("h200", 989.4e12, 141e9),
        Device("b200", 2250e12, 180e9),
        Device("a100", 312e12, 80e9),
        Device("a100-40", 312e12, 40e9),
        Device("l40s", 362e12, 48e9),
        Device("rtx4090", 165.2e12, 24e9),
        Device("cpu", 0, 0),
    )
}


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU while training, without activation checkpointing: an estimate from above."""

    model: float
    """Weights, gradients, AdamW's moments and what the strategy adds."""
    chunk: float
    """What each chunk of a microbatch adds: activations kept for the backward pass, and logits."""
    usable: float
    """Of the GPU; 0: not checked."""
    chunks_a_step: int
    """Of this GPU."""

    @property
    def microbatch_chunks(self) -> int:
        """The most chunks at a time that fit and divide the GPU's share of a step; 0: not one fits."""
        divisors = (n for n in range(1, self.chunks_a_step + 1) if self.chunks_a_step % n == 0)
        return max((n for n in divisors if self.model + n * self.chunk <= self.usable), default=0)


def flops_per_token(recipe: Recipe) -> int:
    """6 N + 12 · layers · d_model · context: forward and backward, multiplications and additions.

    N counts the tied embedding once, as the output matrix that it is. Attention is counted in full, as is usual, though
    half of it is masked (Chowdhery et al. 2022, appendix B).
    """
    return 6 * recipe.n_parameters + 12 * recipe.n_layers * recipe.d_model * recipe.context


def memory_of(recipe: Recipe, device: Device, gpus: int, strategy: Strategy) -> Memory:
    """Estimate of what training takes on each of so many GPUs.

    Per parameter: float32 weight, gradient and two moments (16 bytes), dealt out under FSDP. DDP adds its buckets (4)
    and autocast's bfloat16 copies (2); FSDP gathers the embedding and two layers at a time (8, with their gradients).
    Per token: what ai2-olmo's model keeps under bfloat16 autocast, (24 + 4 · mlp_ratio) · d_model bytes a layer, and 12
    bytes a logit; compiled, it is less.
    """
    n, embedding = recipe.n_parameters, recipe.rows * recipe.d_model
    gathered = embedding + 2 * (n - embedding) / recipe.n_layers
    model = 22 * n if strategy == "ddp" else 16 * n / gpus + 8 * gathered
    token = recipe.n_layers * (24 + 4 * recipe.mlp_ratio) * recipe.d_model + 12 * recipe.rows
    return Memory(model, token * recipe.context, device.memory * (1 - RESERVED), recipe.batch_chunks // gpus)
