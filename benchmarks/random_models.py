"""Models of the recipes' shapes with random weights: time and memory do not ask what a model has learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from lens import Lens
from probes import Direction
from steering import Plan, Steering
from steering.methods import iti
from steering.plan import default_n_heads
from training.recipe import RECIPES, RecipeName


def random_model(name: RecipeName, folder: Path, dtype: str) -> Path:
    """A folder in `folder` with an OLMo of the recipe's shape and OLMo's tokenizer; one that is there is kept."""
    from transformers import OlmoForCausalLM, PreTrainedTokenizerFast

    from training.export import hugging_face_config
    from training.tokenizer import END_OF_TEXT, official_tokenizer

    recipe, tokenizer, out = RECIPES[name], official_tokenizer(), folder / f"random-{name}"
    if (out / "tokenizer.json").exists():
        return out
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = OlmoForCausalLM._from_config(hugging_face_config(recipe, tokenizer), dtype=getattr(torch, dtype))
    with torch.no_grad():  # rows of no token: not every road masks them, and none may write them
        model.lm_head.weight[tokenizer.get_vocab_size() :] = 0
    model.save_pretrained(out)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT).save_pretrained(out)
    return out


def random_iti(lens: Lens) -> Steering:
    """ITI in random directions, in as many heads as a plan has by default, spread over the layers."""
    heads, rng = list(lens.grid), np.random.default_rng(0)
    n = default_n_heads(len(heads))
    units = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((n, lens.grid.d_head))).float(), dim=-1)
    spaced = heads[:: len(heads) // n][:n]
    directions = [Direction(head, unit, sigma=0.5) for head, unit in zip(spaced, units, strict=True)]
    return Steering(Plan(heads=n), lens.checkpoint.fingerprint, iti.edits(directions, lens.grid.n_heads))
