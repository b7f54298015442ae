"""Apart: images are decoded in other processes, because that is faster, or may kill a decoder.

In: the bytes of images, and a function that makes pixels of each, pickled. Out: its pixels, written
to where they are wanted, and what else it returns, or `Unusable`. An image that kills its process,
or takes more memory than this process may have, is one of those.

    decode_apart(data, Limits())
    seconds, answers = prepare_apart(pickle.dumps(prepare), images, places_BSSC)

Threads may ask at the same time; each has a process, which lives on for the next images of any
thread, and ends with this one. Python runs one thread at a time, and a few tenths of a millisecond
of each image are Python, so that threads alone decode some thousand images a second at most.
"""

import atexit
import fcntl
import io
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, Any, cast

import numpy as np

from infra.safe_path import SAFE_PATH
from tasks.images.colours import Pixels
from tasks.images.unusable import Limits, Unusable

LENGTH_BYTES = 8
PIPE_BYTES = 1 << 20  # what Linux lets anybody have
PROCESS = "tasks.images.decoding_process"
ATTEMPTS_ALONE = 2  # somebody else may have killed the process of the first one
NO_PIXELS = np.empty(0, np.uint8)

# Makes pixels of an image, and something else that can be pickled. Raises Unusable.
Prepare = Callable[[bytes], tuple[Pixels, Any]]

_idle: "list[_Process]" = []


class _Ended(Exception):
    """The process has ended before it has answered; how is in the text."""


def decode_apart(data: bytes, limits: Limits) -> None:
    """Decode an image in another process. Raises Unusable for one that cannot be, or kills it."""
    _, [answer] = prepare_apart(pickle.dumps(partial(_decode_only, limits=limits)), [data], None)
    if isinstance(answer, Unusable):
        raise answer


def _decode_only(data: bytes, limits: Limits) -> tuple[Pixels, None]:
    from tasks.images.decode import decode

    decode(data, limits)
    return NO_PIXELS, None


def prepare_apart(
    prepare: bytes, images: Sequence[bytes], places_NSSC: Pixels | None
) -> tuple[float, list[Any]]:
    """Let another process prepare images: its seconds, and what else came of each, or Unusable.

    The pixels are written to the places; an image that has none leaves its place as it was. Raises
    what the function raises besides.
    """
    try:
        return _ask(prepare, images, places_NSSC)
    except _Ended:
        # One of them has killed it. Each by itself, so that the others are prepared.
        answers = []
        for place, data in enumerate(images):
            own = places_NSSC if places_NSSC is None else places_NSSC[place : place + 1]
            answers.append(_prepare_alone(prepare, data, own))
        return 0.0, answers


def _prepare_alone(prepare: bytes, data: bytes, place_1SSC: Pixels | None) -> Any:
    ended = ""
    for _ in range(ATTEMPTS_ALONE):
        try:
            _, [answer] = _ask(prepare, [data], place_1SSC)
        except _Ended as error:
            ended = str(error)
        else:
            return answer
    return Unusable("crashed", ended)


def _ask(
    prepare: bytes, images: Sequence[bytes], places_NSSC: Pixels | None
) -> tuple[float, list[Any]]:
    with _process() as process:
        process.send(prepare, images, wants_pixels=places_NSSC is not None)
        seconds, answers = process.receive()
        for place, answer in enumerate(answers):
            if places_NSSC is not None and not isinstance(answer, Unusable):
                process.read_into(places_NSSC[place])
        return seconds, answers


@contextmanager
def _process() -> "Iterator[_Process]":
    """A process that nobody else asks meanwhile. Raises _Ended where it ends."""
    process = _idle.pop() if _idle else _Process()
    try:
        yield process
    except (OSError, EOFError):
        raise _Ended(_describe(process.end())) from None
    except BaseException:
        # It may be in the middle of an answer.
        process.end()
        raise
    _idle.append(process)


class _Process:
    """A decoding process, and the pipes to and from it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", PROCESS, str(_memory_bytes())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **SAFE_PATH},
        )
        assert self._process.stdin is not None
        self._input = self._process.stdin
        self._output = cast(io.BufferedReader, self._process.stdout)
        for pipe in (self._input, self._output):
            with suppress(OSError):  # many pipes of one user may not be large
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def send(self, prepare: bytes, images: Sequence[bytes], *, wants_pixels: bool) -> None:
        """Ask for these images. Raises OSError when the process has ended."""
        request = (prepare, [len(data) for data in images], wants_pixels)
        write_message(self._input, pickle.dumps(request), images)

    def receive(self) -> tuple[float, list[Any]]:
        """The answers but for the pixels. Raises EOFError when the process has ended."""
        seconds, answers = pickle.loads(read_message(self._output))
        if isinstance(answers, Exception):
            raise answers
        return seconds, answers

    def read_into(self, place: Pixels) -> None:
        """The pixels of the next image that has some."""
        view = place.data.cast("B")
        if self._output.readinto(view) < len(view):
            raise EOFError

    def end(self) -> int:
        """The exit code of the process, which ends when nothing comes any more."""
        for pipe in (self._input, self._output):
            with suppress(OSError):
                pipe.close()
        return self._process.wait()


@atexit.register
def end_processes() -> None:
    """End the processes that wait for images."""
    while _idle:
        _idle.pop().end()


def write_message(file: IO[bytes], data: bytes, others: Sequence[bytes | memoryview] = ()) -> None:
    """Send bytes over a pipe, and others behind. Raises OSError when nobody reads them."""
    file.write(len(data).to_bytes(LENGTH_BYTES, "little") + data)
    for other in others:
        file.write(other)
    file.flush()


def read_message(file: IO[bytes]) -> bytes:
    """Receive bytes over a pipe. Raises EOFError when nobody writes into it any more."""
    return read_whole(file, int.from_bytes(read_whole(file, LENGTH_BYTES), "little"))


def read_whole(file: IO[bytes], size: int) -> bytes:
    """So many bytes. Raises EOFError when there are fewer."""
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _memory_bytes() -> int:
    """The memory of this worker, or of the machine where it is none; 0 where nobody knows."""
    try:
        from distributed import get_worker

        from infra.devices import memory_limit
    except ImportError:  # benchmarks run where torch is, and Dask is not
        return 0
    try:
        return int(get_worker().memory_manager.memory_limit or memory_limit())
    except ValueError:
        return memory_limit()


def _describe(exit_code: int) -> str:
    if exit_code < 0:
        return f"its decoder was killed by {signal.Signals(-exit_code).name}"
    return f"its decoder ended with exit code {exit_code}"
