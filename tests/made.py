"""A prepared run of a tiny model, made on the spot: token files, an order, settings."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from training.recipe import Recipe
from training.run import Run
from training.tokenizer import END_OF_TEXT, PADDING

RECIPE = Recipe("tiny", 2, 3, 24, 16, 1e-2, batch_chunks=4, clean_tokens=960, vocab_size=258)
HELD_OUT = 3


def made(folder: Path, n_steps: int = 20, recipe: Recipe = RECIPE, seed: int = 0, passes: int = 1) -> Path:
    """A run of so many steps, in passes over one text whose ids follow one another, so that something can be learnt."""
    rng = np.random.default_rng(seed)
    n_chunks = n_steps * recipe.batch_chunks // passes
    files = []
    for name, n in (("clean", n_chunks + HELD_OUT), ("toxic", HELD_OUT)):
        ids = (np.cumsum(rng.integers(1, 4, size=n * recipe.context)) % recipe.rows).astype("<u2")
        file = folder.parent / f"{name}-{seed}-{n}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(ids.tobytes())
        files.append(file)
    order = np.concatenate([rng.permutation(n_chunks) for _ in range(passes)]).astype("<u4")
    folder.mkdir(parents=True)
    held_out = np.arange(n_chunks, n_chunks + 2 * HELD_OUT, dtype="<u4").reshape(2, HELD_OUT)
    for name, numbers in zip(("chunks", "held_out_clean", "held_out_toxic"), (order, *held_out), strict=True):
        (folder / f"{name}.u4").write_bytes(numbers.tobytes())
    manifest = {"share_of": "total", "n_tokens": len(order) * recipe.context, "clean": [], "toxic": []}
    (folder / "mix.json").write_text(json.dumps(manifest))
    tokenizer().save(str(folder.parent / "tokenizer.json"))
    digests = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    settings = Run(
        recipe, seed, tuple(map(str, files)), 0, 1, order_sha256=hashlib.sha256(order.tobytes()).hexdigest(),
        data_sha256=digests, family="tiny", name=folder.name,
    )  # fmt: skip
    settings.write(folder)
    return folder


def again(run: Path, folder: Path, recipe: Recipe | None = None) -> Path:
    """The same run in another folder, perhaps with another recipe."""
    folder.mkdir(parents=True)
    for file in (*run.glob("*.u4"), run / "mix.json"):
        (folder / file.name).write_bytes(file.read_bytes())
    settings = Run.read(run)
    replace(settings, recipe=recipe or settings.recipe, name=folder.name).write(folder)
    (folder.parent / "tokenizer.json").write_bytes((run.parent / "tokenizer.json").read_bytes())
    return folder


def tokenizer() -> Tokenizer:
    """Bytes, end-of-text and padding: 258 ids."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {END_OF_TEXT: 0, PADDING: 1, **{letter: 2 + i for i, letter in enumerate(letters)}}
    made = Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made
