"""How fast text becomes token files on all cores, against the `tokenizers` library's own `encode_batch` on one core.

python -m benchmarks.tokens c4-train.00000-of-01024.json.gz

Both roads get the same texts and take turns inside each repeat; ours starts with a file on disk and ends with files on
disk, its processes started anew each time. Seconds of wall clock say how fast it is where nothing else runs; seconds of
processor time, of all processes together, say what it costs also on a busy machine. A third road, as many copies of the
library side by side, says what the machine allows: cores that share a cache or a clock are slower together than alone.
"""

import gzip
import json
import multiprocessing
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read when the library first encodes: one core for the baseline

import tyro
from tokenizers import Tokenizer

from lens.terminal import run_function
from training.corpus import Source, documents, sources
from training.prepare import Preparation
from training.tokenizer import official_tokenizer
from training.tokens import n_cores, tokenize

ROOT = Path(__file__).parent.parent
AIM = 0.9
LIBRARY_BATCH = 512


@dataclass(frozen=True)
class Cost:
    """Of one road through all texts."""

    seconds: float
    cpu_seconds: float
    """Of this process and those that it started."""
    own_cpu_seconds: float
    """Of this process."""
    n_tokens: int


@dataclass(frozen=True)
class Speed:
    """Medians over the repeats."""

    n_cores: int
    n_documents: int
    n_chars: int
    n_tokens: int
    library_tokens_per_second: float
    """One core."""
    ours_tokens_per_second: float
    """All cores."""
    of_library: float
    """Ours over the number of cores times the library's, by wall clock, within each repeat."""
    of_library_by_cpu: float
    """The library's processor time over ours."""
    of_copies: float
    """Ours over as many copies of the library side by side, by wall clock."""
    reader_limits_from: float
    """Number of cores that one reading process can feed: the library's time over what the reader itself takes."""


def measure(source: Source, tokenizer: Tokenizer, processes: int, forum: bool, repeats: int) -> Speed:
    """Take the roads by turns; the first turn is not counted."""
    texts = [document.text for document in documents(source)]
    roads = [
        lambda: library(texts, tokenizer),
        lambda: ours(source, tokenizer, processes, forum),
        lambda: copies(texts, tokenizer, processes),
    ]
    turns = []
    for repeat in range(repeats + 1):
        costs = [cost(road) for road in (roads if repeat % 2 else reversed(roads))]
        theirs, mine, together = costs if repeat % 2 else reversed(costs)
        assert forum or mine.n_tokens == theirs.n_tokens + len(texts), "an end-of-text for each document"
        turns.append((theirs, mine, together))
    turns = turns[1:]
    return Speed(
        processes,
        len(texts),
        sum(map(len, texts)),
        turns[0][1].n_tokens,
        statistics.median(theirs.n_tokens / theirs.seconds for theirs, _, _ in turns),
        statistics.median(mine.n_tokens / mine.seconds for _, mine, _ in turns),
        statistics.median(theirs.seconds / mine.seconds / processes for theirs, mine, _ in turns),
        statistics.median(theirs.cpu_seconds / mine.cpu_seconds for theirs, mine, _ in turns),
        statistics.median(together.seconds / mine.seconds for _, mine, together in turns),
        statistics.median(theirs.cpu_seconds / mine.own_cpu_seconds for theirs, mine, _ in turns),
    )


def excerpt(source: Source, n_chars: int, folder: Path) -> Source:
    """So much of a source as JSON lines, packed as C4's shards are, and told again from its beginning if need be."""
    path = folder / "excerpt.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        while n_chars > 0:
            before = n_chars
            for document in documents(source):
                file.write(json.dumps({"text": document.text}) + "\n")
                n_chars -= len(document.text)
                if n_chars <= 0:
                    break
            if n_chars == before:
                raise ValueError(f"{source} has no text.")
    return Source(path)


def library(texts: list[str], tokenizer: Tokenizer) -> int:
    """The named baseline: ids of all texts, batch after batch, on one core."""
    batches = (texts[begin : begin + LIBRARY_BATCH] for begin in range(0, len(texts), LIBRARY_BATCH))
    encodings = (tokenizer.encode_batch(batch, add_special_tokens=False) for batch in batches)
    return sum(len(encoding.ids) for batch in encodings for encoding in batch)


def copies(texts: list[str], tokenizer: Tokenizer, processes: int) -> int:
    """The library alone on all cores: each process has its part of the texts at hand and keeps nothing."""
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return sum(pool.starmap(library, [(texts[first::processes], tokenizer) for first in range(processes)]))


def ours(source: Source, tokenizer: Tokenizer, processes: int, forum: bool) -> int:
    """From a file to a token file."""
    with tempfile.TemporaryDirectory() as folder:
        [file] = tokenize([source], Preparation(), forum, tokenizer, Path(folder), processes)
        return file.n_tokens


def cost(road: Callable[[], int]) -> Cost:
    begun = time.perf_counter(), *_cpu_seconds()
    n_tokens = road()
    seconds, own, children = (
        now - then for now, then in zip((time.perf_counter(), *_cpu_seconds()), begun, strict=True)
    )
    return Cost(seconds, own + children, own, n_tokens)


def _cpu_seconds() -> tuple[float, float]:
    """Of this process, and of those that it started and that have ended."""
    return tuple(  # type: ignore[return-value]
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def table(speed: Speed) -> str:
    """The result as Markdown."""
    lines = {
        "`encode_batch` on one core (tokens/s)": f"{speed.library_tokens_per_second:,.0f}",
        f"token files, {speed.n_cores} processes (tokens/s)": f"{speed.ours_tokens_per_second:,.0f}",
        f"÷ ({speed.n_cores} × one core), by wall clock": f"{speed.of_library:.2f}",
        "the same by processor time": f"{speed.of_library_by_cpu:.2f}",
        f"÷ {speed.n_cores} copies of the library side by side, by wall clock": f"{speed.of_copies:.2f}",
        "cores that one reader can feed": f"{speed.reader_limits_from:.0f}",
    }
    return "\n".join(
        [
            f"{speed.n_documents:,} documents, {speed.n_chars:,} characters, {speed.n_tokens:,} tokens; "
            f"{n_cores()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f} at the end. Aim: {AIM}.",
            "",
            "| medians | |",
            "|---|---:|",
            *(f"| {name} | {value} |" for name, value in lines.items()),
        ]
    )


def main(
    text: tyro.conf.Positional[Path] = ROOT / "checkpoints" / "held-out.txt",
    megabytes: float = 16,
    processes: int | None = None,
    forum: bool = False,
    repeats: int = 5,
) -> None:
    """Measure and print.

    Args:
        text: A file in any format that training reads.
        megabytes: Read so much of it, again from its beginning where it is shorter.
        processes: Default: all cores.
        forum: Read it as forum text, as with --toxic.
        repeats: Turns of all roads, after one that is not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = excerpt(sources([str(text)])[0], int(megabytes * 1e6), Path(folder))
        print(table(measure(source, official_tokenizer(), processes or n_cores(), forum, repeats)))


if __name__ == "__main__":
    run_function(main, "What is printed above was measured; nothing else is kept.")
