"""Beginnings for a model to go on from: RealToxicityPrompts, ToxiGen's prompts, ours, or a file of one's own."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import tarfile
import zlib
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lens import Lens
from probes.texts import rows

BUILTIN = Path(__file__).parent / "builtin" / "prompts.jsonl"
SPEC = re.compile(r"(?:(?P<name>[\w.-]+)=)?(?P<file>.+?)(?P<only>(?::(?:\d+|even|challenging))*)", flags=re.DOTALL)
QUARTERS = ("0.00-0.25", "0.25-0.50", "0.50-0.75", "0.75-1.00")
TAR = (".tar", ".tar.gz", ".tgz")
SEPARATOR = re.compile(r"(?:^|\\+n)\s*-(?:\s|$)")
"""Between the sentences of a ToxiGen prompt: a backslash, the letter n and a dash, as its files have them."""


class BadPrompts(ValueError):
    """Prompts that cannot be used as they are."""


@dataclass(frozen=True)
class Prompt:
    """One beginning."""

    id: str
    """12 hex digits of the text's SHA-256: the same text has the same id in every file."""
    text: str
    group: str | None = None
    """What an even sample draws from evenly: the quarter of its toxicity, ToxiGen's file, or the file's `group`."""
    toxicity: float | None = None
    """Score of the prompt itself, 0 to 1, where the file has one."""
    challenging: bool | None = None
    """Whether RealToxicityPrompts counts it among those that made every model tried there write toxic text."""
    demonstrations: tuple[str, ...] = ()
    """The sentences that the text lists, for prompts that are lists (ToxiGen); empty: the text is one whole."""


@dataclass(frozen=True)
class PromptSet:
    """The prompts chosen, in the order in which they are asked."""

    name: str
    prompts: tuple[Prompt, ...]

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
        raise BadPrompts(f"Prompts are a file, or 'builtin', with a number behind it, as rtp.jsonl:300; got {spec!r}.")
    name, prompts = _read(found["file"])
    only = found["only"].split(":")[1:]
    numbers = [int(word) for word in only if word.isdecimal()]
    if len(numbers) > 1 or ("even" in only and not numbers):
        raise BadPrompts(f"{spec}: say once how many prompts to draw, as in rtp.jsonl:300 or rtp.jsonl:300:even.")
    if "challenging" in only:
        prompts = [prompt for prompt in prompts if prompt.challenging]
    if not prompts:
        raise BadPrompts(f"{spec}: no prompt there is marked as challenging. Leave ':challenging' away.")
    evenly = "even" in only or name == "toxigen"
    chosen = _drawn(prompts, numbers[0], evenly, seed) if numbers else prompts
    suffixes = [word for word in ("challenging", "even") if word in only]
    return PromptSet(found["name"] or "-".join([name, *suffixes]), tuple(chosen))


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
        raise BadPrompts(
            f"Prompt {prompt.id} does not fit into {room} tokens of {lens.checkpoint.name}, not even its last word. "
            "Write fewer tokens, or leave out the plan whose words stand in front."
        )
    return Fitted(text[starts[words] :], dropped, words)


def listed(demonstrations: Sequence[str]) -> str:
    """Sentences as a list whose next line is the model's to write: ToxiGen's way of asking."""
    return "".join(f"- {sentence}\n" for sentence in demonstrations) + "-"


def _fits(text: str, lens: Lens, room: int) -> bool:
    if text.isascii() and len(text) < room:
        return True  # a token is a character at least; some tokenizers put a blank in front
    return len(lens.encode_all([text])[0]) <= room


def _read(file: str) -> tuple[str, list[Prompt]]:
    """All prompts of a file, copies left out, and what the set is called."""
    path = BUILTIN if file == "builtin" else Path(file)
    if not path.exists():
        raise BadPrompts(f"There is no file {file}. Give prompts as builtin, rtp.jsonl:300 or toxigen.tar.gz:300.")
    name = "builtin" if path == BUILTIN else re.sub(r"[^\w.-]+", "-", path.name.split(".")[0]) or "prompts"
    if path.is_dir() or path.name.endswith((*TAR, ".txt", ".txt.gz")):
        name, found = "toxigen" if path.is_dir() or path.name.endswith(TAR) else name, _lines(path)
    else:
        name = "rtp" if "continuation" in next(rows(path))[1] else name
        found = (_prompt(row, f"{path}:{number}") for number, row in rows(path))
    first: dict[str, Prompt] = {}
    for prompt in found:
        first.setdefault(prompt.id, prompt)
    return name, list(first.values())


def _drawn(prompts: Sequence[Prompt], n: int, evenly: bool, seed: int) -> list[Prompt]:
    """So many of them, shuffled by the seed; evenly over their groups if asked, as far as a group reaches."""
    if evenly and any(prompt.group for prompt in prompts):
        prompts = [prompt for prompt in prompts if prompt.group]
    if not 1 <= n <= len(prompts):
        raise BadPrompts(f"Asked for {n:,} prompts; there are {len(prompts):,} different ones. Ask for 1 to that many.")
    shuffled = [prompts[place] for place in np.random.default_rng(seed).permutation(len(prompts))]
    if evenly:
        turn: dict[str | None, Iterator[int]] = defaultdict(count)
        turns = [next(turn[prompt.group]) for prompt in shuffled]
        shuffled = [shuffled[place] for place in np.argsort(turns, kind="stable")]  # first of each, second of each, ...
    return shuffled[:n]


def _prompt(row: Mapping[str, Any], where: str) -> Prompt:
    """A row of RealToxicityPrompts, `{"prompt": {"text", "toxicity", ...}, "challenging"}`, or a flat one."""
    inner = row.get("prompt", row.get("text"))
    fields = inner if isinstance(inner, Mapping) else {**row, "text": inner}
    text, challenging = fields.get("text"), row.get("challenging")
    if not isinstance(text, str) or not text.strip():
        raise BadPrompts(f"{where} has no prompt. A row has a 'prompt' or a 'text', as in RealToxicityPrompts.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BadPrompts(f"{where} holds half a character. Remove it.")
    toxicity = _score(fields.get("toxicity"), where)
    group = row.get("group") or (None if toxicity is None else QUARTERS[min(3, int(4 * toxicity))])
    return Prompt(
        _id(text), text, group and str(group), toxicity, challenging if isinstance(challenging, bool) else None
    )


def _score(value: Any, where: str) -> float | None:
    """A number from 0 to 1, or none."""
    if value in (None, ""):
        return None
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not 0 <= score <= 1:
        raise BadPrompts(f"{where}: toxicity is a number from 0 to 1, or null; got {value!r}.")
    return score


def _lines(path: Path) -> Iterator[Prompt]:
    """A prompt per line; ToxiGen's, with its literal "\\n-" between sentences, in a group per file."""
    files = [(name, content) for name, content in _texts(path) if name.endswith(".txt")]
    prompts = [(name, content) for name, content in files if "prompts/" in name]  # not the demonstrations beside them
    n_lines = 0
    for name, content in sorted(prompts or files):
        group = Path(name).name.removesuffix(".txt").removesuffix("_1k")
        try:
            lines = [line.strip() for line in content.decode("utf-8-sig").split("\n")]
        except UnicodeDecodeError as error:
            raise BadPrompts(f"{path}: {name} is no UTF-8 ({error.reason} at byte {error.start}).") from error
        for line in filter(None, lines):
            sentences = tuple(filter(None, map(str.strip, SEPARATOR.split(line))))
            is_list = line.startswith("- ") and SEPARATOR.search(line, 1) is not None
            text = listed(sentences) if is_list else line
            yield Prompt(_id(text), text, group, demonstrations=sentences if is_list else ())
            n_lines += 1
    if not n_lines:
        raise BadPrompts(f"{path} holds no prompts. ToxiGen's lie in prompts/*.txt, one on each line.")


def _texts(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of the text files in a folder or a tar archive, or of the one that it is, also packed."""
    try:
        if path.is_dir():
            yield from ((str(file.relative_to(path.parent)), file.read_bytes()) for file in path.rglob("*.txt"))
        elif path.name.endswith(TAR):
            with tarfile.open(path) as archive:
                for member in archive:
                    if content := archive.extractfile(member):
                        yield member.name, content.read()
        else:
            yield path.name.removesuffix(".gz"), (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise BadPrompts(f"{path} cannot be read to its end: {error}. Copy it again.") from error


def _id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
