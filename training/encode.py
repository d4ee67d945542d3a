"""Texts to ids on all cores: batches go out to processes and come back in their order.

The processes run this very file, which imports numpy and tokenizers alone: they are there in a moment, each uses one
core, and each ends with its input, so that none is left when the command that started them is killed.
"""

import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from tokenizers import Tokenizer

AHEAD = 3
"""Batches under way per process, so that none waits for the reader."""


class EncodingError(ValueError):
    """Texts that did not become ids."""


@dataclass(frozen=True)
class Encoded:
    """The ids of several documents, one behind the other, each with its end-of-text."""

    ids: np.ndarray
    """Little-endian uint16: [n_tokens]."""
    lengths: np.ndarray
    """Of each document, its end-of-text counted: [n_documents]."""


@runtime_checkable
class HasTexts(Protocol):
    @property
    def texts(self) -> list[str]: ...


Batch = TypeVar("Batch", bound=HasTexts)
Encode = Callable[[Iterable[Batch]], Iterator[tuple[Batch, Encoded]]]


class Encoder:
    """A tokenizer that reads end-of-text written out in a document as the letters that it is."""

    def __init__(self, tokenizer: str, eos: int) -> None:
        self.eos, self.tokenizer = eos, Tokenizer.from_str(tokenizer)
        self.tokenizer.encode_special_tokens = True
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def __call__(self, texts: list[str]) -> Encoded:
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        documents = [np.asarray([*encoding.ids, self.eos], dtype="<u2") for encoding in encodings]
        lengths = np.asarray([len(ids) for ids in documents], dtype=np.int64)
        return Encoded(np.concatenate([np.empty(0, dtype="<u2"), *documents]), lengths)


class Worker:
    """An encoder in a process of its own."""

    def __init__(self, tokenizer: str, eos: int) -> None:
        pipe, environment = subprocess.PIPE, {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen([sys.executable, "-P", __file__], stdin=pipe, stdout=pipe, env=environment)
        self._send((tokenizer, eos))

    def __call__(self, texts: list[str]) -> Encoded:
        self._send(texts)
        return self._receive()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, message: Any) -> None:
        assert self._process.stdin
        with self._alive():
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()

    def _receive(self) -> Encoded:
        assert self._process.stdout
        with self._alive():
            return Encoded(*pickle.load(self._process.stdout))

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise EncodingError(
                f"A tokenising process ended with status {self._process.wait()} (-9: the system may be short of "
                "memory). The same command goes on with the source it was at."
            ) from error


@contextmanager
def encoding(tokenizer: Tokenizer, eos: int, processes: int) -> Iterator[Encode]:
    """Inside the `with`, a function that turns batches into ids, in order; a lone batch is not worth a process."""
    settings, here, workers = (tokenizer.to_str(), eos), threading.local(), list[Worker]()

    def begin() -> None:
        here.worker = Worker(*settings)
        workers.append(here.worker)

    def there(texts: list[str]) -> Future[Encoded]:
        return threads.submit(lambda: here.worker(texts))

    def encode(batches: Iterable[Batch]) -> Iterator[tuple[Batch, Encoded]]:
        stream = iter(batches)
        first = list(itertools.islice(stream, 2))
        if len(first) < 2:
            yield from ((batch, Encoder(*settings)(batch.texts)) for batch in first)
        else:
            yield from _in_order(there, itertools.chain(first, stream), AHEAD * processes)

    threads = ThreadPoolExecutor(processes, initializer=begin)  # a thread waits for each process
    try:
        yield encode
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.end()


def _in_order(
    submit: Callable[[list[str]], Future[Encoded]], batches: Iterable[Batch], ahead: int
) -> Iterator[tuple[Batch, Encoded]]:
    waiting: deque[tuple[Batch, Future[Encoded]]] = deque()
    try:
        for batch in batches:
            waiting.append((batch, submit(batch.texts)))
            if len(waiting) == ahead:
                first, ids = waiting.popleft()
                yield first, ids.result()
        for batch, ids in waiting:
            yield batch, ids.result()
    finally:
        for _, ids in waiting:
            ids.cancel()


def main() -> None:
    """A worker's side: settings first, then batch after batch until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's to answer
    encoder = Encoder(*pickle.load(sys.stdin.buffer))
    while True:
        try:
            texts = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        encoded = encoder(texts)
        pickle.dump((encoded.ids, encoded.lengths), sys.stdout.buffer)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
