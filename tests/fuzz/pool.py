"""Pool: processes that try cases, each within a budget of time and of memory.

In: the seed and the numbers of cases. Out: (number, verdict) as they come. A process that dies or
does not answer in time is replaced, and its case is a crash or a hang.
"""

import multiprocessing
import resource
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from tests.fuzz.cases import make_case
from tests.fuzz.trial import Verdict, try_case

MAX_SECONDS = 30  # of a case; a slow machine takes a second
MAX_ADDRESS_BYTES = 16 << 30  # what goes beyond it could take the machine down
READY = -1


class Worker:
    """A process, and the case that it is at."""

    def __init__(self, seed: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(seed, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.number, self.since = READY, time.monotonic()

    def give(self, number: int) -> None:
        """Start a case."""
        self.number, self.since = number, time.monotonic()
        self.connection.send(number)

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def run_cases(
    seed: int, numbers: Iterator[int], processes: int, until: float
) -> Iterator[tuple[int, Verdict]]:
    """Verdicts until this moment (of `time.monotonic`), or until there are no more numbers."""
    workers = [Worker(seed) for _ in range(processes)]
    try:
        while workers and time.monotonic() < until:
            wait([worker.connection for worker in workers], timeout=1)
            for place, worker in enumerate(list(workers)):
                verdict = _verdict(worker)
                if verdict is None:
                    continue
                if worker.number != READY:
                    yield worker.number, verdict
                if verdict.name == "hangs" or not worker.process.is_alive():
                    worker.stop()
                    workers[place] = Worker(seed)
                elif (number := next(numbers, None)) is not None:
                    worker.give(number)
                else:
                    worker.stop()
                    workers.remove(worker)
                    break
    finally:
        for worker in workers:
            worker.stop()


def _verdict(worker: Worker) -> Verdict | None:
    """What became of its case; None while it is at it."""
    if worker.connection.poll():
        try:
            found: Verdict = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join()
            return Verdict("crashes", f"the process died: exit code {worker.process.exitcode}")
        return found
    if time.monotonic() - worker.since > MAX_SECONDS + (300 if worker.number == READY else 0):
        return Verdict("hangs", f"no answer within {MAX_SECONDS} s")
    return None


def _serve(seed: int, connection: Connection) -> None:
    """The process: take a number, try its case, answer."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, MAX_ADDRESS_BYTES))
    for number in range(-8, 0):  # libraries are loaded, and their memory taken, before the first
        try_case(make_case(seed, number))
    connection.send(Verdict("kept"))
    while True:
        connection.send(try_case(make_case(seed, connection.recv())))
