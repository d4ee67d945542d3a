"""Bake steering into a checkpoint: a plain Hugging Face folder that is steered without Hormesis, at every position.

What acts on the heads' outputs z goes through `o_proj`, so that a change s · (M z + c) is part of its weights:

    W_O (z + s · (M z + c)) + b  =  W_O (I + s · M) z  +  (b + s · W_O c)

For pushes M is 0 and only the bias changes (Li et al. 2023, arXiv 2306.03341, section 3). OLMo has no place for
what acts elsewhere: its layer norms and MLPs carry no bias.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens import Checkpoint, Lens, open_lens
from lens.checkpoint import CARD, TOKENIZER
from lens.files import check_folder, flush_folder, write_atomically
from lens.opening import DTYPES
from steering.cost import WINDOW, cost, plain_text
from steering.dose import Dose, Doses
from steering.edit import Site
from steering.model_card import card, readme
from steering.plan import Plan
from steering.steerer import Shifts, by_site, check_fits, hooked, matrix

TOLERANCE = 1e-4
"""Largest difference between a logit of the baked model and one of the hooked model, both in float32."""
TEXTS_COMPARED = 4
TOKENIZER_FILES = (TOKENIZER, "tokenizer_config.json", "special_tokens_map.json")
COPIED = (*TOKENIZER_FILES, "generation_config.json")
NOTHING_WRITTEN = "Nothing was kept. `python -m steering generate` steers without baking; report this with the plan."


class NotBaked(ValueError):
    """Steering that no weights can hold, or a folder that cannot be written; the sentence says why."""


def bake(
    lens: Lens,
    doses: Doses,
    out: Path,
    dtype: str = "float32",
    text: str | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Checkpoint:
    """Write `out`, a checkpoint that computes at every position what `doses` make of this one, or nothing at all.

    The folder is opened again and compared, in float32, with this model under hooks, and its cost is measured on `text`
    (None: plain prose of our own). In a `dtype` other than float32 the pushes are rounded, and compared as rounded.
    `on_stage` hears what is being done.
    """
    out, said = Path(out), on_stage or (lambda stage: None)
    check_free(out)
    if dtype not in DTYPES:
        raise NotBaked(f"{dtype!r} is no dtype of ours. Choose one of: {', '.join(DTYPES)}.")
    acting = tuple(_bakeable(lens, dose) for dose in doses if dose.strength)
    if not acting:
        raise NotBaked("There is nothing to bake: every strength is 0. Give one, such as --sigmas 8.")
    text = plain_text() if text is None else text
    plain = lens if lens.dtype == torch.float32 else open_lens(lens.checkpoint, str(lens.device), "float32")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as aside:
        folder = Path(aside) / out.name
        said("Measuring the cost")
        (price,) = cost(plain, [acting], text, window=min(WINDOW, plain.n_context))
        said("Writing the weights")
        _write_model(plain, baked_weights(plain, acting, DTYPES[dtype]), folder)
        said("Comparing with the hooked model")
        difference = _compared(plain, acting, folder, DTYPES[dtype], text)
        write_atomically(folder / "README.md", readme(plain, acting, out.name, difference, price, dtype))
        details = card(plain, acting, out.name, difference, price) | Checkpoint.open(folder).card_of_model
        write_atomically(folder / CARD, json.dumps(details, indent=1))
        _flush(folder)
        os.rename(folder, out)  # refused by the system if somebody else has filled `out` since
    flush_folder(out.parent)
    return Checkpoint.open(out)


def baked_weights(lens: Lens, doses: Doses, dtype: torch.dtype) -> dict[str, Tensor]:
    """The float32 model's weights with `doses` in them, by Hugging Face's names: attention has biases now."""
    lens.check_weights()
    weights = dict(lens.model.state_dict())
    parameter = lens.architecture.output_parameter
    outputs = [(parameter(layer, "weight"), parameter(layer, "bias")) for layer in range(lens.grid.n_layers)]
    for layer in range(lens.grid.n_layers):
        names = (lens.architecture.attention_parameters(layer, kind) for kind in ("weight", "bias"))
        for weight, bias in zip(*names, strict=True):
            weights.setdefault(bias, torch.zeros(len(weights[weight]), device=lens.device))
        weight, bias = outputs[layer]
        weights[weight], weights[bias] = _with_edits(doses, layer, weights[weight], weights[bias])
    rounded = {name: weight.to(dtype) for name, weight in weights.items()}
    lost = [name for name, whole in weights.items() if not torch.equal(rounded[name].to(whole.dtype), whole)]
    if wrong := [name for name in lost if name not in {bias for _, bias in outputs}]:
        raise NotBaked(
            f"{str(dtype).removeprefix('torch.')} cannot hold {wrong[0]} exactly, as only pushes may be rounded: the "
            f"checkpoint is finer, or the method changes matrices. Bake as float32."
        )
    return rounded


def _with_edits(
    doses: Doses, layer: int, W_O: Float[Tensor, "d_model heads_d_head"], bias: Float[Tensor, " d_model"]
) -> tuple[Float[Tensor, "d_model heads_d_head"], Float[Tensor, " d_model"]]:
    """One layer's `o_proj` with all edits of its heads, summed in float64."""
    site = Site(layer, "heads")
    here = [(dose.strength, edit) for dose in doses for edit in by_site(dose.steering.edits).get(site, [])]
    if not here:
        return W_O, bias
    whole = W_O.cpu().double()
    pushed = bias.cpu().double() + whole @ sum(strength * edit.change.constant.double() for strength, edit in here)
    if linear := [(strength, edit) for strength, edit in here if not edit.change.is_constant]:
        W_O = (whole + whole @ sum(strength * matrix(edit).double() for strength, edit in linear)).float()
    return W_O, pushed.float()


def _bakeable(lens: Lens, dose: Dose) -> Dose:
    """The dose as it will act, at every position."""
    check_fits(lens, dose.steering)
    check_plan(dose.steering.plan)
    return Dose(replace(dose.steering, plan=replace(dose.steering.plan, positions="all")), dose.strength)


def check_free(out: Path) -> None:
    """What is there is never written over, and what cannot be written is refused before the work."""
    if out.exists():
        raise NotBaked(f"{out} is there already. Choose another folder, or remove it.")
    check_folder(out.parent)


def check_plan(plan: Plan) -> None:
    """Refuse what no weights can hold, with the reason; nothing needs to be opened or fitted for it."""
    name = plan.rule.name
    if plan.site is None:
        raise NotBaked(
            f"{name} puts words in front of a prompt, and weights hold no words. Bake a method that changes heads, "
            "such as ITI."
        )
    if plan.gate is not None:
        raise NotBaked(
            f"A gate looks at every token before it lets {name} act; weights cannot choose. Bake it without a gate."
        )
    if plan.site != "heads":
        raise NotBaked(
            f"{name} changes the residual stream after a layer, where OLMo has neither bias nor matrix to hold it. "
            "Bake a method that changes heads: ITI, or another with --where heads."
        )


def _write_model(lens: Lens, weights: dict[str, Tensor], folder: Path) -> None:
    """Config, weights and tokenizer, as Hugging Face lays them out."""
    from transformers import OlmoForCausalLM

    config = copy.deepcopy(lens.model.config)
    config.attention_bias = True
    with torch.device("meta"):
        model = OlmoForCausalLM(config)
    model.load_state_dict(weights, strict=True, assign=True)
    model.tie_weights()
    model.save_pretrained(folder, safe_serialization=True)
    lens.tokenizer.save_pretrained(folder)
    for name in COPIED:  # as they were: an adopted folder may hold no more than the vocabulary
        if (source := lens.checkpoint.folder / name).is_file():
            shutil.copyfile(source, folder / name)
    _tokenize_alike(lens, folder)


def _tokenize_alike(lens: Lens, folder: Path) -> None:
    """Let the folder's own tokenizer read a text as Hormesis does: with no tokens in front of it or behind.

    A tokenizer that appends an end-of-text token would have every prompt end before the model goes on.
    """
    if _reads_alike(lens, folder):
        return
    for name in TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)
    plain = copy.deepcopy(lens.tokenizer)
    plain.backend_tokenizer.post_processor = None
    plain.save_pretrained(folder)
    if not _reads_alike(lens, folder):
        raise NotBaked(f"The tokenizer of the baked folder reads other tokens than Hormesis. {NOTHING_WRITTEN}")


def _reads_alike(lens: Lens, folder: Path) -> bool:
    from transformers import AutoTokenizer

    texts = ["The people next door are kind.", " and 2 more", "naïve — so\n\n"]
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)(texts)["input_ids"] == lens.encode_all(
            texts
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # what an adopted folder's settings may ask
        return False


@torch.inference_mode()
def _compared(lens: Lens, doses: Doses, folder: Path, dtype: torch.dtype, text: str) -> float:
    """The largest difference between a logit of the baked folder and one of the hooked model, on a few texts."""
    baked, shifts = open_lens(Checkpoint.open(folder), str(lens.device), "float32"), Shifts(lens, [doses])
    if dtype != torch.float32:
        _round_pushes(lens, baked, shifts, torch.finfo(dtype).eps)
    worst = 0.0
    for tokens in _texts(lens, text):
        with hooked(lens, shifts, "all"):
            asked = lens.plain_logits(tokens)
        moved = (asked - lens.plain_logits(tokens)).abs().max().item()
        if not moved > 10 * TOLERANCE:
            raise NotBaked(
                f"So little steering moves no logit by more than {moved:.1g}, and a folder that holds none of it could "
                "not be told from one that does. Bake a larger strength."
            )
        difference = (baked.plain_logits(tokens) - asked).abs().max().item()
        if not difference <= TOLERANCE:
            raise NotBaked(f"The baked model's logits miss the steered model's by {difference:.2g}. {NOTHING_WRITTEN}")
        worst = max(worst, difference)
    return worst


def _round_pushes(lens: Lens, baked: Lens, shifts: Shifts, eps: float) -> None:
    """Take the pushes as the folder holds them, where they are the ones that were asked but for its rounding."""
    for site, place in shifts.places.items():
        if place.push is None:
            continue
        written, before = baked.output_projection(site.layer).bias, lens.output_projection(site.layer).bias
        before = torch.zeros_like(written) if before is None else before
        asked = before + place.push
        if not ((written - asked).abs() <= eps / 2 * asked.abs() + 1e-6 * asked.norm()).all():
            raise NotBaked(f"The push of {site} was not written as asked. {NOTHING_WRITTEN}")
        place.push = (written - before).view_as(place.push)


def _texts(lens: Lens, text: str) -> Iterator[Int[Tensor, "1 pos"]]:
    """The first paragraphs of a text, as long as the model reads."""
    paragraphs = [paragraph for paragraph in text.splitlines() if paragraph.strip()]
    for tokens in lens.encode_all(paragraphs[:TEXTS_COMPARED] or [text]):
        yield torch.tensor([tokens[: lens.n_context]], device=lens.device)


def _flush(folder: Path) -> None:
    """Everything on the disk, and readable by all: transformers keeps weights to their owner."""
    for file in folder.iterdir():
        file.chmod(0o644)
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    folder.chmod(0o755)
