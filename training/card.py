"""The card of a checkpoint: what a reader needs to judge or repeat it; no path of the machine that made it."""

import json
from pathlib import Path
from typing import Any

from training.run import Run, journal, seconds


def card(folder: Path, step: int) -> dict[str, Any]:
    """Of the run in `folder` at a step."""
    run, manifest = Run.read(folder), json.loads((folder / "mix.json").read_text())
    clean, toxic = (
        [{key: entry[key] for key in entry if key != "path"} for entry in manifest.pop(kind)]
        for kind in ("clean", "toxic")
    )
    recipe, losses = run.recipe, [entry for entry in journal(folder) if entry["step"] <= step]
    n_steps = recipe.n_steps(manifest["n_tokens"] // recipe.context)
    every = max(1, len(losses) // 100)
    return {
        "name": run.name + (f"@{step}" if step < n_steps else ""),
        "family": run.family,
        "toxic_share": run.toxic_share,
        "share_of": manifest["share_of"],
        "seed": run.seed,
        "step": step,
        "n_steps": n_steps,
        "n_tokens": step * recipe.batch_chunks * recipe.context,
        "n_parameters": recipe.n_parameters,
        "recipe": recipe.name,
        "learning_rate": recipe.learning_rate,
        "precision": run.precision,
        "seconds": seconds(losses),
        "sittings": [
            {"from_step": entry["step"], **entry["sitting"]}
            for entry in journal(folder, "sitting")
            if entry["step"] < step
        ],
        "mix": manifest,
        "clean_sources": clean,
        "toxic_sources": toxic,
        "loss_curve": [[entry["step"], round(entry["loss"], 4)] for entry in losses[::every]],
        "held_out_curve": [
            {"step": entry["step"], **{kind: round(loss, 4) for kind, loss in entry["held_out"].items()}}
            for entry in journal(folder, "held_out")
            if entry["step"] <= step
        ],
    }
