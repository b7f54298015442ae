"""Apart: an image that may kill its decoder is decoded in another process first.

In: the bytes of an image. Out: nothing, or `Unusable` with what became of that process. It has as
much memory as this one, so that an image that is too large for it is found here, too.

    decode_apart(data, Limits())

The process lives on for the next image, and ends with this one.
"""

import atexit
import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO

from infra.safe_path import SAFE_PATH
from tasks.images.unusable import Limits, Unusable

LENGTH_BYTES = 8
PROCESS = "tasks.images.decoding_process"

_lock = threading.Lock()


def decode_apart(data: bytes, limits: Limits) -> None:
    """Decode an image in another process. Raises Unusable for one that cannot be, or kills it."""
    with _lock:
        process = _start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            write_message(process.stdin, pickle.dumps((data, limits)))
            answer = read_message(process.stdout)
        except (OSError, EOFError):
            _start.cache_clear()
            raise Unusable("crashed", _describe(_end(process))) from None
    if answer:
        raise pickle.loads(answer)


def write_message(file: IO[bytes], data: bytes) -> None:
    """Send bytes over a pipe. Raises OSError when nobody reads it."""
    file.write(len(data).to_bytes(LENGTH_BYTES, "little") + data)
    file.flush()


def read_message(file: IO[bytes]) -> bytes:
    """Receive bytes over a pipe. Raises EOFError when nobody writes into it any more."""
    size = file.read(LENGTH_BYTES)
    if len(size) < LENGTH_BYTES:
        raise EOFError
    return file.read(int.from_bytes(size, "little"))


@functools.cache
def _start() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-m", PROCESS, str(_memory_bytes())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **SAFE_PATH},
    )
    atexit.register(_end, process)
    return process


def _end(process: "subprocess.Popen[bytes]") -> int:
    """The exit code of the process, which ends when nothing comes any more."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(OSError):
            pipe.close()
    return process.wait()


def _memory_bytes() -> int:
    """The memory of this worker, or of the machine where it is none."""
    from distributed import get_worker

    from infra.devices import memory_limit

    try:
        return int(get_worker().memory_manager.memory_limit or memory_limit())
    except ValueError:
        return memory_limit()


def _describe(exit_code: int) -> str:
    if exit_code < 0:
        return f"its decoder was killed by {signal.Signals(-exit_code).name}"
    return f"its decoder ended with exit code {exit_code}"
