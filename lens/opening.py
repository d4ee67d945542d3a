"""From a name to an open lens: find the folder, choose device and dtype, load, refuse what does not fit together."""

from __future__ import annotations

import re
import shlex
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import torch

from lens.card import CARD
from lens.checkpoint import Checkpoint, find
from lens.config import ModelConfig
from lens.files import check_folder
from lens.fingerprint import TOKENIZER
from lens.model import Lens
from lens.numeric import as_int
from lens.reading import BrokenCheckpoint
from lens.tokenizer import load_tokenizer, warnings_of_ends
from lens.weight_files import EMBEDDING, TIED, stored_tensors

if TYPE_CHECKING:
    from transformers import OlmoForCausalLM

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OPENING = Lock()
"""One model is loaded at a time: meanwhile transformers changes what all threads see, and weights went missing."""
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
        torch.set_num_threads(int(threads))
    where, kind, state = resolve_device(device), resolve_dtype(dtype, checkpoint), checkpoint.state
    config = checkpoint.config
    _check_weights(checkpoint)
    tokenizer = load_tokenizer(checkpoint.folder, config)
    warnings = [*warnings_of_card(checkpoint), *warnings_of_ends(tokenizer, config)]
    with OPENING:
        model = _load_model(checkpoint, config, kind).to(where)
    lens = Lens(checkpoint, model, tokenizer, warnings)
    if checkpoint.state != state:
        raise BrokenCheckpoint(f"The files of {checkpoint.folder}/ changed while they were read. Try again.")
    return lens


def locate(name: str) -> Checkpoint:
    """The checkpoint of that folder or name; a missing "org/name" is fetched from the Hugging Face hub."""
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).parent.exists()
    return Checkpoint.open(_download(name)) if on_hub else find(name)


def check_machine(device: str, dtype: str | None, threads: int | None) -> None:
    """Refuse what no model can be computed on here, before anything slow begins."""
    resolve_device(device)
    if dtype is not None:
        dtype_named(dtype)
    if threads is not None and not 1 <= (as_int(threads) or 0) <= MOST_THREADS:
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
        return torch.float32 if checkpoint.n_parameters < SMALL else torch.bfloat16
    return dtype_named(name)


def dtype_named(name: str) -> torch.dtype:
    """The number format of that name."""
    if name not in DTYPES:
        raise ValueError(f"{name!r} is no dtype of ours. Choose one of: {', '.join(DTYPES)}.")
    return DTYPES[name]


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, OSError) as error:
        check_folder(Path(HF_HUB_CACHE), f"The cache of the Hugging Face hub, {HF_HUB_CACHE} (HF_HOME),")
        raise HubUnreachable(
            f"{name} is no folder here and could not be fetched from the Hugging Face hub ({type(error).__name__}). "
            "Check the name and the connection, or download it elsewhere and give its folder."
        ) from error


def warnings_of_card(checkpoint: Checkpoint) -> list[str]:
    """Whether config, tokenizer and end tokens are those that the card of one of our own exports names."""
    now, card = checkpoint.card_of_model, checkpoint.card
    parts = {"config.json": "config_sha256", TOKENIZER: "tokenizer_sha256"}
    changed = [file for file, part in parts.items() if card.get(part) not in (None, now[part])]
    see = f"See python -m lens check {shlex.quote(str(checkpoint.folder))}."
    warnings = [f"The {file} of {checkpoint.name} is not the one that its card names. {see}" for file in changed]
    if card.get("end_tokens") not in (None, now["end_tokens"]):
        warnings.append(f"Texts of {checkpoint.name} end with other tokens than its card names. {see}")
    return warnings


def _check_weights(checkpoint: Checkpoint) -> None:
    """Our own exports say on their card which numbers they are; others are taken as they come."""
    expected = checkpoint.card.get("weights_sha256")
    if expected and expected != checkpoint.digests.weights_sha256:
        raise BrokenCheckpoint(
            f"The weights in {checkpoint.folder}/ are not those that its {CARD} names: the file was damaged or "
            f'replaced. Copy the folder again; if the new weights are meant, remove "weights_sha256" from {CARD}.'
        )


def _load_model(checkpoint: Checkpoint, config: ModelConfig, dtype: torch.dtype) -> OlmoForCausalLM:
    """The plain model on the CPU, of the tensors whose headers were compared with the config.

    transformers gets tensors and config, never the folder: it would follow an adapter, another index or a pickle there.
    """
    from safetensors import SafetensorError
    from transformers import OlmoForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = checkpoint.folder
    try:
        with ExitStack() as files:
            model, found = OlmoForCausalLM.from_pretrained(
                None,
                config=config.to_hugging_face(),
                state_dict=_tensors(folder, config, files),
                dtype=dtype,
                attn_implementation="sdpa",
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, OverflowError, SafetensorError) as error:
        raise BrokenCheckpoint(
            f"The weights in {folder}/ do not load as config.json describes them: {error} "
            "Copy the folder again or export the checkpoint again."
        ) from error
    wrong = sorted({str(key) for kind in ("missing_keys", "mismatched_keys", "unexpected_keys") for key in found[kind]})
    assert not wrong, "headers and config were compared before"
    if lost := next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None):
        raise BrokenCheckpoint(
            f"{lost} in {folder}/ holds numbers that are not finite in {dtype}. Copy or export it again."
        )
    return model.eval().requires_grad_(False)


def _tensors(folder: Path, config: ModelConfig, files: ExitStack) -> dict[str, Any]:
    """The tensors of a model, not yet read; a second copy of a matrix that serves twice has to be the same."""
    from safetensors import safe_open

    stored = stored_tensors(folder, config)
    opened = {
        file: files.enter_context(safe_open(file, framework="pt")) for file in {one.file for one in stored.values()}
    }
    if config.tie_word_embeddings and TIED in stored:
        embedding, head = (opened[stored[name].file].get_tensor(name) for name in (EMBEDDING, TIED))
        if not torch.equal(embedding, head):
            raise BrokenCheckpoint(
                f"{folder}/ has two different matrices for words, and its config.json says that they are one "
                '("tie_word_embeddings"). Correct config.json, or export again.'
            )
        del stored[TIED]
    return {name: opened[tensor.file].get_slice(name) for name, tensor in stored.items()}
