"""A library of others in a process of its own, which steers the same model by the same vectors when it is asked to.

PEERS/bin/python benchmarks/peer.py nnsight FOLDER PUSHES.safetensors --dtype float32 --threads 1

Imports nothing of ours, so that it runs in an environment made for the peers. It says what it is in one line of JSON,
then answers each task on stdin, a line of JSON too, by a line on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import OlmoForCausalLM

Generate = Callable[..., Tensor]
"""Prompts [row pos] and settings of `generate` → prompts with what was written."""


def nnsight(model: OlmoForCausalLM, pushes: dict[int, Tensor]) -> Generate:
    """A traced generation, edited at each of its steps (nnsight's guide to `tracer.iter`)."""
    from nnsight import TransformersModel
    from transformers import AutoTokenizer

    traced = TransformersModel(model, tokenizer=AutoTokenizer.from_pretrained(model.config.name_or_path))

    def generate(prompt: Tensor, **settings: Any) -> Tensor:
        whole = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
        with traced.generate(whole, **settings) as tracer:
            for _ in tracer.iter[: settings["max_new_tokens"]]:
                for layer, push in pushes.items():
                    traced.model.layers[layer].self_attn.o_proj.input[:, -1] += push
            written = tracer.result.save()
        return written

    return generate


def pyvene(model: OlmoForCausalLM, pushes: dict[int, Tensor]) -> Generate:
    """A function at the input of each `o_proj`, as honest_llama hangs up its intervener; here it steers every row."""
    import pyvene

    def adding(push: Tensor) -> Callable[[Tensor, Any], Tensor]:
        def add(z: Tensor, source: Any) -> Tensor:
            z[:, -1] = z[:, -1] + push
            return z

        return add

    places = [
        {"component": f"model.layers[{layer}].self_attn.o_proj.input", "intervention": adding(push)}
        for layer, push in pushes.items()
    ]
    edited = pyvene.IntervenableModel(places, model)

    def generate(prompt: Tensor, **settings: Any) -> Tensor:
        whole = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}
        return edited.generate(whole, unit_locations=None, intervene_on_prompt=True, **settings)[1]

    return generate


def answer(generate: Generate, device: str, prompt: list[int], n_rows: int, n_tokens: int) -> dict[str, Any]:
    """Greedy tokens behind a prompt, and how long they took."""
    start = clock()
    rows = torch.tensor([prompt] * n_rows, device=device)
    written = generate(rows, max_new_tokens=n_tokens, do_sample=False, pad_token_id=0)
    seconds = clock() - start
    return {"seconds": seconds, "tokens": written[:, len(prompt) :].tolist()}


def clock() -> float:
    """Seconds, when all that a GPU was asked for is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("library", choices=("nnsight", "pyvene"))
    asked.add_argument("folder")
    asked.add_argument("pushes")
    asked.add_argument("--dtype", default="float32")
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--device", default="cpu")
    given = asked.parse_args()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not pass for an answer
    torch.set_num_threads(given.threads)
    dtype = getattr(torch, given.dtype)
    model = OlmoForCausalLM.from_pretrained(given.folder, dtype=dtype, attn_implementation="sdpa").eval()
    model.to(given.device)
    model.generation_config.eos_token_id = None  # no text ends: every road writes as many tokens
    pushes = {int(layer): push.to(given.device, dtype) for layer, push in load_file(given.pushes).items()}
    generate = {"nnsight": nnsight, "pyvene": pyvene}[given.library](model, dict(sorted(pushes.items())))
    print(json.dumps({given.library: version(given.library)}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(generate, given.device, **json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
