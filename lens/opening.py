"""From a name to an open lens: find the folder, choose device and dtype, load, refuse what does not fit together."""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lens.checkpoint import TOKENIZER, BrokenCheckpoint, Checkpoint, find, weight_files
from lens.model import Lens

if TYPE_CHECKING:
    from transformers import OlmoForCausalLM, PreTrainedTokenizerFast

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL = 500_000_000
"""Parameters below which float32 is the default: above, a CPU's memory sets the speed and bfloat16 halves the bytes."""


MOST_THREADS = 1024
"""More than any machine has; torch ends the process where the system refuses to start so many."""


class HubUnreachable(OSError):
    """A checkpoint on the Hugging Face hub that is neither here nor within reach."""


def open_lens(
    checkpoint: Checkpoint | str, device: str = "auto", dtype: str | None = None, threads: int | None = None
) -> Lens:
    """Load a checkpoint: one of ours, a folder, a name in `checkpoints/`, or "org/name" on the Hugging Face hub."""
    if isinstance(checkpoint, str):
        checkpoint = locate(checkpoint)
    check_machine(device, dtype, threads)
    if threads is not None:
        torch.set_num_threads(threads)
    where, kind = resolve_device(device), resolve_dtype(dtype, checkpoint)
    tokenizer = _load_tokenizer(checkpoint)
    model = _load_model(checkpoint, kind)
    _check_vocabulary(checkpoint, model, tokenizer)
    return Lens(checkpoint, model.to(where), tokenizer)


def locate(name: str) -> Checkpoint:
    """The checkpoint of that folder or name; a missing "org/name" is fetched from the Hugging Face hub."""
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).parent.exists()
    return Checkpoint.open(_download(name)) if on_hub else find(name)


def check_machine(device: str, dtype: str | None, threads: int | None) -> None:
    """Refuse what no model can be computed on here, before anything slow begins."""
    resolve_device(device)
    if dtype is not None:
        dtype_named(dtype)
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads is a number of CPU threads from 1 up to {MOST_THREADS}; got {threads}.")


def resolve_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first accelerator at hand, else the CPU."""
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if name == "auto":
        return torch.device(next(kind for kind, n in counts.items() if n))
    kind, colon, number = name.partition(":")
    whole = number.isascii() and number.isdecimal() and int(number) < counts.get(kind, 0)
    if not (whole if colon else counts.get(kind, 0)):
        present = ", ".join(kind if n < 2 else f"{kind}:0 to {kind}:{n - 1}" for kind, n in counts.items() if n)
        raise ValueError(f"There is no device {name!r} for torch here. Choose auto or one of: {present}.")
    return torch.device(name)


def resolve_dtype(name: str | None, checkpoint: Checkpoint) -> torch.dtype:
    """The number format of that name; by default float32 for small models, else bfloat16."""
    if name is None:
        return torch.float32 if count_parameters(checkpoint) < SMALL else torch.bfloat16
    return dtype_named(name)


def dtype_named(name: str) -> torch.dtype:
    """The number format of that name."""
    if name not in DTYPES:
        raise ValueError(f"{name!r} is no dtype of ours. Choose one of: {', '.join(DTYPES)}.")
    return DTYPES[name]


def count_parameters(checkpoint: Checkpoint) -> int:
    """Numbers in the weight files, read from their headers."""
    shapes = [entry["shape"] for file in weight_files(checkpoint.folder) for entry in _tensors(file)]
    return sum(math.prod(shape) for shape in shapes)


def _tensors(file: Path) -> list[dict[str, Any]]:
    """Entries of a safetensors header; its own library would map the whole file to read them."""
    with file.open("rb") as weights:
        (length,) = struct.unpack("<Q", weights.read(8))
        header = json.loads(weights.read(length))
    return [entry for name, entry in header.items() if name != "__metadata__"]


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, OSError) as error:
        raise HubUnreachable(
            f"{name} is no folder here and could not be fetched from the Hugging Face hub ({type(error).__name__}). "
            "Check the name and the connection, or download it elsewhere and give its folder."
        ) from error


def _load_model(checkpoint: Checkpoint, dtype: torch.dtype) -> OlmoForCausalLM:
    """The plain model on the CPU. Weights that are missing or misshapen are refused: they would be left random."""
    from transformers import OlmoForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, found = OlmoForCausalLM.from_pretrained(
            checkpoint.folder,
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise BrokenCheckpoint(
            f"The weights in {checkpoint.folder}/ do not load as config.json describes them: {error} "
            "Copy the folder again or export the checkpoint again."
        ) from error
    wrong = sorted({str(key) for kind in ("missing_keys", "mismatched_keys", "unexpected_keys") for key in found[kind]})
    if wrong:
        raise BrokenCheckpoint(
            f"The weights in {checkpoint.folder}/ do not fit its config.json: {len(wrong)} are missing, too many or of "
            f"another shape, such as {wrong[0]}. Copy config.json and the weights from one source, or export again."
        )
    return model.eval().requires_grad_(False)


def _load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerFast:
    """The vocabulary as tokenizer.json has it; which token ends a text is what config.json says."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel
    from transformers import PreTrainedTokenizerFast

    path = checkpoint.folder / TOKENIZER
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the tokenizers library raises no narrower class
        raise BrokenCheckpoint(
            f"{path} is not a tokenizer of the tokenizers library ({error}). "
            "Copy the tokenizer.json that the model was trained with."
        ) from error
    if not isinstance(tokenizer.decoder, ByteLevel):
        raise BrokenCheckpoint(
            f"{path} does not write text byte by byte, as the tokenizers of all OLMo models do. "
            "Copy the tokenizer.json that the model was trained with."
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left")


def _check_vocabulary(checkpoint: Checkpoint, model: OlmoForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    n_vocab, eos = model.config.vocab_size, model.config.eos_token_id
    largest = max(tokenizer.get_vocab().values())
    if largest >= n_vocab:
        raise BrokenCheckpoint(
            f"{checkpoint.folder / TOKENIZER} has token {largest}, but the model's vocabulary has {n_vocab} rows. "
            "Copy the tokenizer.json that the model was trained with."
        )
    eos = eos[0] if isinstance(eos, list) else eos
    end = tokenizer.convert_ids_to_tokens(eos) if isinstance(eos, int) else None
    if end is None:
        raise BrokenCheckpoint(
            f"{checkpoint.folder / 'config.json'} says that token {eos} ends a text, which {TOKENIZER} does not have. "
            'Set "eos_token_id" to the id of the end-of-text token.'
        )
    tokenizer.eos_token = tokenizer.pad_token = end
