"""Decoding process: decodes what comes over a pipe, for a process that must not die of it.

    python -m tasks.images.decoding_process MEMORY_BYTES

In: images, pickled with their limits. Out: for each an empty message, or a pickled `Unusable`.
"""

import pickle
import resource
import sys
from contextlib import suppress

from tasks.images.apart import read_message, write_message
from tasks.images.decode import decode
from tasks.images.unusable import Unusable


def main() -> None:
    """Decode until nothing comes any more."""
    memory_bytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with suppress(EOFError):
        while True:
            data, limits = pickle.loads(read_message(sys.stdin.buffer))
            answer = b""
            try:
                decode(data, limits)
            except Unusable as unusable:
                problem = unusable
                if isinstance(unusable.__cause__, MemoryError):
                    problem = Unusable("crashed", "it takes more memory than a worker has")
                answer = pickle.dumps(problem)
            write_message(sys.stdout.buffer, answer)


if __name__ == "__main__":
    main()
