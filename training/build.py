"""What a training process is made of: the model over all processes, its data, its optimiser."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from olmo.config import DistributedStrategy, TrainConfig
from olmo.data import MemMapDataset
from olmo.data.collator import DataCollator
from olmo.model import OLMo
from olmo.optim import build_optimizer, build_scheduler
from olmo.torch_util import seed_all
from olmo.train import cross_entropy_loss
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.functional import pad, softmax
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset

from training import mix
from training.conduct import Conduct
from training.config import train_config
from training.run import Run, note
from training.trainer import FamilyTrainer, Ordered


def trainer_of(run: Run, order: np.ndarray, folder: Path, device: torch.device, conduct: Conduct) -> FamilyTrainer:
    """ai2-olmo's parts put together for this process: model, data in the run's order, optimiser, schedule."""
    world_size = torch.distributed.get_world_size()
    config = train_config(run, len(order), folder, conduct, world_size)
    seed_all(run.seed)
    model = OLMo(config.model).to(device)
    if device.type == "cpu":
        for block in model.transformer.blocks:
            block._scaled_dot_product_attention = causal_attention
    if config.compile is not None:
        model.compile(**config.compile.asdict())
    spread = spread_over(model, config, device)
    dataset = MemMapDataset(
        *config.data.paths,
        chunk_size=config.model.max_sequence_length,
        memmap_dtype=np.uint16,
        pad_token_id=config.model.pad_token_id,
        eos_token_id=config.model.eos_token_id,
    )
    ordered = Ordered(
        dataset,
        config.global_train_batch_size,
        order=order,
        drop_last=True,
        num_threads=0 if device.type == "cpu" else 4,
    )
    return FamilyTrainer(
        cfg=config,
        epoch=0,
        model=model,
        dist_model=spread,
        optim=_fused(build_optimizer(config, spread)),
        scheduler=build_scheduler(config),
        train_loader=_loader(ordered, config, config.device_train_batch_size),
        device=device,
        evaluators=[],
        loss_fn=torch.compile(_loss_in_float32) if run.compiled else _loss_in_float32,
        held_out=_held_out(dataset, config, folder),
        note=partial(note, folder) if torch.distributed.get_rank() == 0 else lambda entry: None,
        keep_every=conduct.keep_every,
    )


def _held_out(dataset: MemMapDataset, config: TrainConfig, folder: Path) -> dict[str, DataLoader]:
    """The chunks that no run of the family is trained on, by kind of text."""
    chunks = {kind: mix.chunks_of(folder, f"held_out_{kind}").tolist() for kind in ("clean", "toxic")}
    size = config.device_train_microbatch_size
    return {kind: _loader(Subset(dataset, chunks[kind]), config, size) for kind in chunks if chunks[kind]}


def spread_over(model: OLMo, config: TrainConfig, device: torch.device) -> torch.nn.Module:
    """The model over all processes: whole in each, or sharded block by block."""
    if config.distributed_strategy == DistributedStrategy.ddp:
        return DistributedDataParallel(model)
    return FullyShardedDataParallel(
        model,
        sharding_strategy=config.fsdp.sharding_strategy,
        mixed_precision=config.fsdp_precision,
        auto_wrap_policy=model.get_fsdp_wrap_policy(config.fsdp.wrapping_strategy),
        use_orig_params=config.fsdp.use_orig_params,
        limit_all_gathers=True,
        device_id=device,  # also a CPU must be named
    )


def _fused(optim: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """AdamW in one kernel for all parameters; OLMo's has no switch for it."""
    for group in optim.param_groups:
        group["fused"] = True
    return optim


def _loader(data: Any, config: TrainConfig, batch_size: int) -> DataLoader:
    return DataLoader(
        data,
        batch_size=batch_size,
        drop_last=isinstance(data, Ordered),
        collate_fn=DataCollator(config.data.pad_direction, config.model.pad_token_id),
    )


def causal_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: Any) -> torch.Tensor:
    """Causal attention of short contexts on a CPU: [batch head pos d_head] → the same.

    torch's fused kernel spends nearly half of a small model's training step in its backward pass there. Written out,
    compiled, and with the early half of the queries reading the early half of the keys only, a step of the nano recipe
    in bfloat16 took three quarters of the time (one CPU, one noisy measurement).
    """
    q = q * q.shape[-1] ** -0.5
    n_pos = q.shape[-2]
    rows = []
    for begin, end in ((0, n_pos // 2), (n_pos // 2, n_pos)):
        own = torch.full((end - begin, end - begin), float("-inf"), device=q.device).triu(1)
        scores = q[..., begin:end, :] @ k[..., :end, :].transpose(-2, -1)
        weights = softmax(scores.float() + pad(own, (begin, 0)), dim=-1)
        rows.append(weights.to(v.dtype) @ v[..., :end, :])
    return torch.cat(rows, dim=-2)


def _loss_in_float32(logits: torch.Tensor, labels: torch.Tensor, **options: Any) -> Any:
    """Under autocast the logits are bfloat16, whose log-softmax would round losses to three digits."""
    return cross_entropy_loss(logits.float(), labels, **options)
