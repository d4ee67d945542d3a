"""How much memory an open checkpoint takes, as a multiple of its weights: fast road and reference road together.

python -m benchmarks.memory
python -m benchmarks.memory --checkpoint checkpoints/demo-10

Without a checkpoint, a random one of OLMo-1B's shape is written to a temporary folder (2.4 GB). Each opening is
measured in a fresh process that has opened and closed the demo checkpoint first, so that libraries are not counted.
The highest point counts the pages of the file that the weights are copied from, which the system may drop at any time.
Linux only.
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import tyro

from benchmarks.random_models import random_model
from lens import Lens, open_lens
from lens.terminal import run_function
from steering import Row, Sampling, generate

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "checkpoints" / "demo-10"
AIM = 1.15
"""What was promised, as a multiple of the weights."""
STAGES = ("opened", "loop", "bridge", "used")
"""After `open_lens`; with the decoding loop's layers; with the TransformerBridge; after a pass on each road."""


def memory(field: str) -> int:
    """A line of the process's own record, in bytes: VmRSS is what it holds, VmHWM the most it held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/self/status has no {field}. This benchmark needs Linux.")


def opened(folder: Path, dtype: str) -> dict[str, float]:
    """Growth of this process, in multiples of the weights, as a checkpoint is opened; and its highest point."""
    _use(open_lens(str(DEMO), "cpu", "float32"))  # libraries load what they load late
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest point so far
    before = memory("VmRSS")
    found = {}
    lens = open_lens(str(folder), "cpu", dtype)
    weights = sum(weight.numel() * weight.element_size() for weight in lens.model.parameters())
    steps = (lambda: None, lambda: lens.blocks, lambda: lens.on_heads(0, lambda z: z), lambda: _use(lens))
    for stage, step in zip(STAGES, steps, strict=True):
        step()
        found[stage] = (memory("VmRSS") - before) / weights
    return {"weights_GB": weights / 1e9, **found, "peak": (memory("VmHWM") - before) / weights}


def _use(lens: Lens) -> None:
    """One short pass on each road."""
    tokens = torch.tensor([lens.encode("The people next door are kind")])
    lens.plain_logits(tokens)
    lens.logits(tokens)
    generate(lens, [Row("The people next door")], Sampling(max_tokens=2))


def in_a_fresh_process(folder: Path, dtype: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.memory", "--checkpoint", str(folder), "--dtype", dtype, "--here"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def table(found: list[dict[str, float]], dtype: str) -> str:
    """The medians as Markdown."""
    median = {name: statistics.median(one[name] for one in found) for name in found[0]}
    cells = " | ".join(f"{median[name]:.2f}" for name in (*STAGES, "peak"))
    return "\n".join(
        [
            f"Memory that a process grows by, as a multiple of the weights ({median['weights_GB']:.2f} GB, {dtype}), "
            f"medians of {len(found)} process{'es' * (len(found) != 1)}. Aim: {AIM}.",
            "",
            "| opened | with the decoding loop | with the bridge | after use | highest point |",
            "|---:|---:|---:|---:|---:|",
            f"| {cells} |",
        ]
    )


def main(
    checkpoint: Path | None = None,
    dtype: str = "bfloat16",
    repeats: int = 3,
    here: bool = False,
    as_json: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Measure and print.

    Args:
        checkpoint: A folder. Default: random weights of OLMo-1B's shape.
        dtype: float32, bfloat16 or float16.
        repeats: Fresh processes.
        here: Measure once in this very process, and print JSON.
        as_json: File for the numbers.
    """
    if here and checkpoint:
        print(json.dumps(opened(checkpoint, dtype)))
        return
    with tempfile.TemporaryDirectory() as aside:
        folder = checkpoint or random_model("1b", Path(aside), dtype)
        found = [in_a_fresh_process(folder.resolve(), dtype) for _ in range(repeats)]
    print(table(found, dtype))
    if as_json:
        as_json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_function(
        main, "What is printed above was measured; nothing else is kept.", config=(tyro.conf.FlagCreatePairsOff,)
    )
