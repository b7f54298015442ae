"""Decoding process: prepares the images that come over a pipe, for another process.

    python -m tasks.images.decoding_process MEMORY_BYTES

In: messages, each with a pickled function, the sizes of images and whether their pixels are wanted,
and these images behind it. Out: for each message the seconds and the answers, pickled, and the
pixels of usable images behind them.
"""

import functools
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Any

import numpy as np

from tasks.images.apart import Prepare, read_message, read_whole, write_message
from tasks.images.unusable import Unusable

Answers = tuple[list[Any], list[memoryview]]


def main() -> None:
    """Work until nothing comes any more."""
    if memory_bytes := int(sys.argv[1]):
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    # Ctrl+C reaches every process of a terminal; this one ends when its parent does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, sink = sys.stdin.buffer, _own_output()
    with suppress(EOFError, BrokenPipeError):
        while True:
            pickled, sizes, wants_pixels = pickle.loads(read_message(source))
            images = [read_whole(source, size) for size in sizes]
            began = time.process_time()
            try:
                answers, pixels = _prepare(_load(pickled), images)
            except Exception as error:
                # Not the image's fault: it is raised where the image came from.
                write_message(sink, pickle.dumps((0.0, error)))
                continue
            seconds = time.process_time() - began
            write_message(sink, pickle.dumps((seconds, answers)), pixels if wants_pixels else ())


def _own_output() -> IO[bytes]:
    """Standard output for answers alone: what anything prints goes where errors go."""
    sink = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return sink


@functools.lru_cache(maxsize=4)
def _load(pickled: bytes) -> Prepare:
    function: Prepare = pickle.loads(pickled)
    return function


def _prepare(prepare: Prepare, images: Sequence[bytes]) -> Answers:
    answers: list[Any] = []
    pixels = []
    for data in images:
        try:
            pixels_SSC, answer = prepare(data)
        except Unusable as unusable:
            answers.append(_with_reason(unusable))
        else:
            answers.append(answer)
            pixels.append(np.ascontiguousarray(pixels_SSC).data.cast("B"))
    return answers, pixels


def _with_reason(unusable: Unusable) -> Unusable:
    """What is too large for this process is called so; it may only look damaged."""
    if isinstance(unusable.__cause__, MemoryError):
        return Unusable("crashed", "it takes more memory than a worker has")
    return unusable


if __name__ == "__main__":
    main()
