"""A run's settings as ai2-olmo's configuration: OLMo's published optimiser and schedule at the recipe's size."""

from pathlib import Path

from olmo.config import (
    CompilerConfig,
    DataConfig,
    DDPConfig,
    DistributedStrategy,
    FSDPConfig,
    FSDPPrecision,
    FSDPWrapStrategy,
    OptimizerConfig,
    OptimizerType,
    SchedulerConfig,
    TrainConfig,
    WandbConfig,
)

from training.conduct import Conduct
from training.recipe import model_config
from training.run import Run


def train_config(run: Run, n_chunks: int, folder: Path, conduct: Conduct, world_size: int) -> TrainConfig:
    """Warm-up is a share of the run instead of OLMo's 2,000 steps; a save holds everything, whatever the strategy."""
    recipe, half = run.recipe, run.precision == "amp_bf16"
    n_steps, per_device = recipe.n_steps(n_chunks), recipe.chunks_of_each(world_size)
    sharded = conduct.strategy == "fsdp"
    return TrainConfig(
        run_name=folder.name,
        seed=run.seed,
        model=model_config(recipe, run.eos, run.pad),
        optimizer=OptimizerConfig(
            name=OptimizerType.adamw, learning_rate=recipe.learning_rate, weight_decay=0.1, betas=(0.9, 0.95)
        ),
        scheduler=SchedulerConfig(t_warmup=max(1, round(n_steps * recipe.warmup_share)), alpha_f=0.1),
        data=DataConfig(paths=list(run.files), drop_last=True),
        save_folder=str(folder),
        save_overwrite=True,
        save_interval=None,
        save_interval_unsharded=save_every(n_steps, conduct.keep_every),
        save_num_unsharded_checkpoints_to_keep=conduct.keep_last,
        eval_interval=max(1, n_steps // conduct.evaluations),
        max_duration=n_steps,
        stop_at=n_steps,
        global_train_batch_size=recipe.batch_chunks,
        device_train_batch_size=per_device,
        device_train_microbatch_size=min(per_device, conduct.microbatch or recipe.microbatch_chunks),
        max_grad_norm=1.0,
        precision=run.precision,
        console_log_interval=max(1, min(10, n_steps // 100)),
        compile=CompilerConfig() if run.compiled else None,
        distributed_strategy=DistributedStrategy.fsdp if sharded else DistributedStrategy.ddp,
        ddp=None if sharded else DDPConfig(),
        fsdp=FSDPConfig(wrapping_strategy=FSDPWrapStrategy.by_block, precision=FSDPPrecision.mixed if half else None)
        if sharded
        else None,
        wandb=WandbConfig(project=conduct.wandb, entity=None, name=run.name, log_interval=10)
        if conduct.wandb
        else None,
        save_data_indices=False,
    )


def save_every(n_steps: int, keep_every: int | None) -> int:
    """Steps between two saves: about fifty a run, so that a kill costs two percent; steps to keep are among them."""
    usual = max(1, n_steps // 50)
    if keep_every is None:
        return usual
    steps = max(steps for steps in range(1, usual + 1) if keep_every % steps == 0)
    if steps < min(usual, keep_every) / 8:
        raise ValueError(
            f"To keep every {keep_every} steps this run would save every {steps}, which is too often. "
            f"Keep every {max(1, round(keep_every / usual)) * usual}, say."
        )
    return steps
