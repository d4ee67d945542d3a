"""Beginnings for a model to go on from: RealToxicityPrompts, ToxiGen's prompts, ours, or a file of one's own."""

from __future__ import annotations

import hashlib
import io
import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lens import Lens
from lens.archive import members
from lens.line_reader import BadTexts, kind_of, opened
from steering.prompt_files import Prompt, PromptFile, listed, prompts_in, read_prompts, remark

BUILTIN = Path(__file__).parent / "builtin" / "prompts.jsonl"
SPEC = re.compile(r"(?:(?P<name>[\w.-]+)=)?(?P<file>.+?)(?P<only>(?::(?:\d+|even|challenging))*)", flags=re.DOTALL)


@dataclass(frozen=True)
class PromptSet:
    """The prompts chosen, in the order in which they are asked."""

    name: str
    prompts: tuple[Prompt, ...]
    remark: str = ""
    """What whoever gave the file should know of it."""

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def digest(self) -> str:
        """SHA-256 of the chosen texts and groups, in order."""
        content = [[prompt.text, prompt.group] for prompt in self.prompts]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class Fitted(NamedTuple):
    """What of a prompt fits into a context."""

    text: str
    dropped: int
    """Whole demonstrations left out, from the left."""
    words: int
    """Words left out besides, from the left, where not even the last demonstration fits."""


def open_prompts(spec: str, seed: int = 0) -> PromptSet:
    """Prompts by a spec such as `rtp.jsonl.gz:300`, `toxigen.tar.gz:300`, `rtp.jsonl:challenging` or `builtin`.

    The file is RealToxicityPrompts' `prompts.jsonl`; ToxiGen's prompts as a tar archive, a folder or one .txt; or
    JSONL, CSV or text lines of one's own. Behind it `:N` draws so many by the seed: from RealToxicityPrompts at random,
    so that the sample stands for the file; from ToxiGen evenly over its files. `:even` draws evenly over the groups of
    any file, so over the quarters of the prompts' toxicity. A smaller sample is the beginning of a larger one.
    `NAME=` in front names the set; copies of a text are asked once.
    """
    found = SPEC.fullmatch(spec)
    if not found:
        raise BadTexts(f"Prompts are a file, or 'builtin', with a number behind it, as rtp.jsonl:300; got {spec!r}.")
    name, prompts, word = _read(found["file"])
    only = found["only"].split(":")[1:]
    numbers = [int(word) for word in only if word.isdecimal()]
    if len(numbers) > 1 or ("even" in only and not numbers):
        raise BadTexts(f"{spec}: say once how many prompts to draw, as in rtp.jsonl:300 or rtp.jsonl:300:even.")
    if "challenging" in only:
        prompts = [prompt for prompt in prompts if prompt.challenging]
    if not prompts:
        raise BadTexts(f"{spec}: no prompt there is marked as challenging. Leave ':challenging' away.")
    evenly = "even" in only or name == "toxigen"
    chosen = _drawn(prompts, numbers[0], evenly, seed) if numbers else prompts
    suffixes = [word for word in ("challenging", "even") if word in only]
    return PromptSet(found["name"] or "-".join([name, *suffixes]), tuple(chosen), word)


def fitted(prompt: Prompt, lens: Lens, room: int) -> Fitted:
    """A prompt in at most `room` tokens: whole demonstrations are left out first, from the left, then words.

    Blanks before the first word are left out before it is.
    """
    text = prompt.text
    for dropped in range(max(1, len(prompt.demonstrations))):
        if dropped:
            text = listed(prompt.demonstrations[dropped:])
        if _fits(text, lens, room):
            return Fitted(text, dropped, 0)
    starts = [word.start() for word in re.finditer(r"\S+", text)]
    words = bisect_left(starts, True, key=lambda start: _fits(text[start:], lens, room))
    if words == len(starts):
        raise BadTexts(
            f"Prompt {prompt.id} does not fit into {room} tokens of {lens.checkpoint.name}, not even its last word. "
            "Write fewer tokens, or leave out the plan whose words stand in front."
        )
    return Fitted(text[starts[words] :], dropped, words)


def _fits(text: str, lens: Lens, room: int) -> bool:
    if text.isascii() and len(text) < room:
        return True  # a token is a character at least; some tokenizers put a blank in front
    return len(lens.encode_all([text])[0]) <= room


def _read(file: str) -> tuple[str, list[Prompt], str]:
    """What the set is called, all prompts of a file, copies left out, and what is to be said of them."""
    path = BUILTIN if file == "builtin" else Path(file)
    if not path.exists():
        raise BadTexts(f"There is no file {file}. Give prompts as builtin, rtp.jsonl:300 or toxigen.tar.gz:300.")
    name = "builtin" if path == BUILTIN else re.sub(r"[^\w.-]+", "-", path.name.split(".")[0]) or "prompts"
    if path.is_dir() or kind_of(path) in (".tar", ".tgz"):
        name, found = "toxigen", _toxigen(path)
    else:
        found = [read_prompts(path, _group(path.name) if kind_of(path) == ".txt" else None)]
        name = "rtp" if found[0].has_continuations else name
    first: dict[str, Prompt] = {}
    for prompt in chain.from_iterable(one.prompts for one in found):
        first.setdefault(prompt.id, prompt)
    return name, list(first.values()), remark(sum(one.n_stripped for one in found))


def _drawn(prompts: Sequence[Prompt], n: int, evenly: bool, seed: int) -> list[Prompt]:
    """So many of them, shuffled by the seed; evenly over their groups if asked, as far as a group reaches."""
    if evenly and any(prompt.group for prompt in prompts):
        prompts = [prompt for prompt in prompts if prompt.group]
    if not 1 <= n <= len(prompts):
        raise BadTexts(f"Asked for {n:,} prompts; there are {len(prompts):,} different ones. Ask for 1 to that many.")
    shuffled = [prompts[place] for place in np.random.default_rng(seed).permutation(len(prompts))]
    if evenly:
        turn: dict[str | None, Iterator[int]] = defaultdict(count)
        turns = [next(turn[prompt.group]) for prompt in shuffled]
        shuffled = [shuffled[place] for place in np.argsort(turns, kind="stable")]  # first of each, second of each, ...
    return shuffled[:n]


def _toxigen(path: Path) -> list[PromptFile]:
    """The text files of a folder or a tar archive, each a group; not the demonstrations that lie beside the prompts."""
    files = dict(_text_files(path))
    prompts = {name: content for name, content in files.items() if "prompts/" in name} or files
    found = [
        prompts_in(io.BufferedReader(io.BytesIO(prompts[name])), path / name, _group(name))  # type: ignore[arg-type]
        for name in sorted(prompts)
        if prompts[name].strip()
    ]
    if not found:
        raise BadTexts(f"{path} holds no prompts. ToxiGen's lie in prompts/*.txt, one on each line.")
    return found


def _text_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the text files in a folder or a tar archive."""
    if path.is_dir():
        yield from ((str(file.relative_to(path.parent)), file.read_bytes()) for file in path.rglob("*.txt"))
        return
    with opened(path) as file:
        for member, content in members(file, path):
            if member.suffix == ".txt":
                yield str(member.relative_to(path)), content.read()


def _group(name: str) -> str:
    return Path(name).name.removesuffix(".gz").removesuffix(".txt").removesuffix("_1k")
