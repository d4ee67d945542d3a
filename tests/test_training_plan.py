"""A plan says what a run will do: its numbers are held to real models, real mixes and real files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("olmo", reason="training needs Python 3.11 or 3.12")

from olmo.model import OLMo
from olmo.train import cross_entropy_loss

from benchmarks import pretrain as benchmark
from training import pretrain
from training.conduct import Conduct
from training.hardware import DEVICES, flops_per_token, memory_of
from training.mix import Mix, order
from training.plan import PAPER_SPEED, PlanError, as_table, plan_family
from training.recipe import RECIPES, Recipe, model_config
from training.run import Run
from training.tokens import TokenFile

ROOT = Path(__file__).parent.parent
TINY = Recipe("tiny", 3, 2, 32, 24, 1e-3, batch_chunks=4, clean_tokens=9600, vocab_size=160)


def loss_of(model: OLMo, n_chunks: int) -> torch.Tensor:
    """The trainer's loss on random chunks."""
    ids = torch.randint(2, TINY.rows, (n_chunks, TINY.context), generator=torch.Generator().manual_seed(0))
    logits = model(ids).logits[..., :-1, :].contiguous().view(-1, TINY.rows)
    return cross_entropy_loss(logits.float(), ids[:, 1:].reshape(-1), ignore_index=-100, reduction="sum")[0]


def test_the_arithmetic_is_what_torch_counts_in_a_real_step() -> None:
    model = OLMo(model_config(TINY, 0, 1))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss_of(model, n_chunks=5).backward()
    assert counter.get_total_flops() == 5 * TINY.context * flops_per_token(TINY)


def test_olmos_own_count_leaves_out_the_logits_of_the_forward_pass() -> None:
    model = OLMo(model_config(TINY, 0, 1))
    logits = 2 * TINY.rows * TINY.d_model
    assert flops_per_token(TINY) == model.num_fwd_flops + model.num_bck_flops + logits


def test_activations_are_what_autograd_keeps() -> None:
    """Everything that the forward pass saves but weights and tables, which are there once and not per chunk."""
    model = OLMo(model_config(TINY, 0, 1))
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    def saved(n_chunks: int) -> int:
        kept.clear()
        keeping = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
        with keeping, torch.autocast("cpu", torch.bfloat16):
            model(torch.ones(n_chunks, TINY.context, dtype=torch.long))
        return sum(storage.nbytes() for storage in kept.values())

    estimate = memory_of(TINY, DEVICES["h100"], 1, "ddp").chunk - 12 * TINY.rows * TINY.context
    assert saved(7) - saved(6) == pytest.approx(estimate, rel=0.1)  # norms' and softmax' own statistics are not counted


def files(folder: Path, **n_tokens: int) -> list[TokenFile]:
    made = []
    for name, n in n_tokens.items():
        np.zeros(n, dtype="<u2").tofile(folder / f"{name}.npy")
        made.append(TokenFile(folder / f"{name}.npy", name, "", "", 1, n))
    return made


@pytest.mark.parametrize("match", ["clean", "total"])
@pytest.mark.parametrize("share_of", ["total", "clean"])
def test_a_plan_and_a_mix_count_the_same(tmp_path: Path, share_of: str, match: str) -> None:
    recipe, n_clean = RECIPES["nano"], 300_000
    shares = (0, 0.05, 0.1, 0.25)
    plan = plan_family("nano", shares, gpu="a100", clean_tokens=n_clean, share_of=share_of, match=match)  # type: ignore[arg-type]
    clean, toxic = files(tmp_path, clean=400_000, toxic=150_000)
    for planned in plan.runs:
        mix = replace(Mix(n_clean, 0, share_of, match), toxic_share=planned.toxic_share)  # type: ignore[arg-type]
        drawn = order(mix, [clean], [toxic], recipe.context)
        assert planned.n_toxic_tokens == drawn.n_toxic * recipe.context
        assert planned.n_clean_tokens + planned.n_toxic_tokens == drawn.n_tokens
        assert planned.n_steps == recipe.n_steps(len(drawn.chunks))
    assert len({run.n_steps for run in plan.runs}) == (1 if match == "total" else len(shares))


def test_hours_tokens_and_speed_agree() -> None:
    plan = plan_family("1b", (0, 0.25), seeds=(0, 1), gpus=16, price_per_gpu_hour=3.0)
    for run in plan.runs:
        assert run.gpu_hours * 3600 * plan.tokens_per_second == pytest.approx(run.n_tokens)
        assert run.n_tokens / (run.n_clean_tokens + run.n_toxic_tokens) == pytest.approx(1, abs=1e-4)
    assert plan.wall_hours * 16 == pytest.approx(2 * sum(run.gpu_hours for run in plan.runs))
    assert plan.mfu == pytest.approx(0.3)
    assert f"price   {3 * plan.gpu_hours:,.0f} at 3 " in as_table(plan)
    quick = as_table(plan_family("demo", (0,), gpu="h200", tokens_per_second=2e6))
    assert "time    0.0100 GPU hours, 0.0100 hours" in quick, "minutes are not nothing"


def test_the_papers_twelve_hours_are_the_utilisation_that_is_assumed() -> None:
    assert pytest.approx(PAPER_SPEED, abs=10) == 25.7e9 / (12 * 3600) / 16
    assert plan_family("1b", gpus=16).tokens_per_second == pytest.approx(PAPER_SPEED, rel=0.02)


def test_a_measured_speed_takes_the_place_of_an_assumed_one() -> None:
    plan = plan_family("1b", (0,), tokens_per_second=50_000)
    assert plan.runs[0].gpu_hours == pytest.approx(19168 * 2**20 / 50_000 / 3600)
    assert plan.mfu == pytest.approx(50_000 * flops_per_token(RECIPES["1b"]) / 989.4e12)
    assert "measured" in as_table(plan)


def test_a_model_that_is_too_large_is_said_to_be_and_the_way_out_works() -> None:
    too_large = plan_family("1b", (0,), gpus=16, gpu="rtx4090")
    assert too_large.memory.microbatch_chunks == 0
    assert "DOES NOT FIT, try --strategy fsdp" in as_table(too_large)
    assert plan_family("1b", (0,), gpus=16, gpu="rtx4090", strategy="fsdp").memory.microbatch_chunks > 0
    assert plan_family("1b", (0,), gpus=16, gpu="h100").memory.microbatch_chunks == 8  # OLMo's own number, on 80 GB


def test_a_microbatch_divides_a_gpus_share_of_a_step() -> None:
    memory = plan_family("1b", (0,), gpus=16, gpu="h200").memory
    assert memory.chunks_a_step % memory.microbatch_chunks == 0
    assert memory.model + memory.microbatch_chunks * memory.chunk <= memory.usable < 0.95 * DEVICES["h200"].memory
    assert replace(memory, chunks_a_step=30).microbatch_chunks == 15  # 20 would fit, and not divide 30


def test_disk_is_what_files_take(tmp_path: Path) -> None:
    plan = plan_family("demo", (0, 0.25), gpu="a100", clean_tokens=100_352)
    [file] = files(tmp_path, tokens=100_352 + plan.runs[1].n_toxic_tokens)
    assert plan.disk.token_files == file.path.stat().st_size
    weights = ROOT / "checkpoints" / "demo-00" / "model.safetensors"
    assert plan.disk.exports / 2 == pytest.approx(weights.stat().st_size, rel=0.01)
    model = OLMo(model_config(RECIPES["demo"], 0, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "step.pt")
    assert plan.disk.steps / 5 == pytest.approx((tmp_path / "step.pt").stat().st_size, rel=0.02)


def test_what_cannot_be_planned_is_said() -> None:
    with pytest.raises(PlanError, match=r"12 GPUs cannot share a step of 512 chunks evenly. These can: 1, 2, 4"):
        plan_family("1b", gpus=12)
    with pytest.raises(PlanError, match="--tokens-per-second"):
        plan_family("nano", gpu="cpu")
    with pytest.raises(PlanError, match=r"mfu must be above 0; got 0\."):
        plan_family("1b", mfu=0)
    with pytest.raises(PlanError, match=r"tokens_per_second must be above 0; got -5\."):
        plan_family("1b", tokens_per_second=-5)
    with pytest.raises(PlanError, match="at least one share and one seed"):
        plan_family("1b", seeds=())
    with pytest.raises(ValueError, match=r"7 chunks of 256 tokens are no step of 2,048\. Ask for more tokens"):
        plan_family("nano", clean_tokens=2047)


def test_a_cpu_is_planned_from_its_measured_speed() -> None:
    plan = plan_family("nano", (0,), gpu="cpu", tokens_per_second=2048)
    assert plan.gpu_hours == pytest.approx(4000 / 3600)  # a step of 2,048 tokens a second
    assert "usable" not in as_table(plan)


OFFICIAL = {"learning_rate": 4.0e-4, "weight_decay": 0.1, "betas": (0.9, 0.95)}
"""allenai/OLMo, configs/official/OLMo-1B.yaml."""


def test_the_baseline_is_what_the_published_configuration_says(tmp_path: Path) -> None:
    conduct = Conduct()
    with pretrain.process_group(conduct) as device:
        run = benchmark.prepared(Run(TINY, 0, (), 0, 1, "amp_bf16", compiled=True), tmp_path, 9)
        config = benchmark.theirs(run, tmp_path, device, conduct).cfg
    assert (config.precision, config.compile, config.activation_checkpointing) == ("amp_bf16", None, None)
    assert (config.distributed_strategy, config.fsdp.wrapping_strategy) == ("fsdp", None)
    assert (config.fsdp.precision, config.fsdp.sharding_strategy.name) == ("mixed", "FULL_SHARD")
    assert (config.device_train_batch_size, config.device_train_microbatch_size) == (9, 8)
    assert (config.max_grad_norm, config.softmax_auxiliary_loss, config.fused_loss) == (1.0, False, None)
    assert RECIPES["1b"].learning_rate == OFFICIAL["learning_rate"]
    assert {name: getattr(config.optimizer, name) for name in ("weight_decay", "betas")} == {
        name: OFFICIAL[name] for name in ("weight_decay", "betas")
    }


def test_the_benchmark_takes_real_steps_on_both_roads(tmp_path: Path) -> None:
    conduct = Conduct()
    with pretrain.process_group(conduct) as device:
        run = benchmark.prepared(Run(TINY, 0, (), 0, 1, "amp_bf16"), tmp_path, chunks=4)
        turns = benchmark.measure(run, tmp_path, device, conduct, n_steps=1, n=1)
        found = json.loads(json.dumps(benchmark.summary(turns, run, conduct, n_steps=1)))
    speeds = {name: figures["tokens_per_second"] for name, figures in found["roads"].items()}
    assert all(speed > 0 for speed in speeds.values())
    assert found["ours_over_theirs"]["median"] == pytest.approx(speeds["ours"] / speeds["theirs"])
    assert {"torch", "ai2-olmo", "cuda"} <= set(found["versions"])
    assert f"| ours | {speeds['ours']:,.0f} |" in benchmark.table(found)


def test_a_gpu_is_known_by_the_name_that_it_gives() -> None:
    known = {
        "NVIDIA H200": "h200",
        "NVIDIA H100 80GB HBM3": "h100",
        "NVIDIA A100-SXM4-80GB": "a100",
        "NVIDIA GeForce RTX 4090": "rtx4090",
    }
    assert {name: device.name for name in known if (device := benchmark.known(name))} == known
    assert benchmark.known("NVIDIA H100 PCIe") is None  # another, slower card
    assert benchmark.known("Intel(R) Xeon(R) Processor") is None
