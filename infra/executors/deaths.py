"""Deaths: what Dask says of workers that were killed, in words that a user can act on.

In: an error of a future, and what the work was. Out: a ProtegeError with the memory that the worker
had and the remedy; any other error comes back as it is.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

from infra.errors import ProtegeError
from infra.settings import DaskSettings

logger = logging.getLogger(__name__)
NANNY = "distributed.nanny"  # what watches a worker, and starts it again
KEY_DIGITS = 33  # a key ends with a hyphen and 32 random digits


class WorkerKilled(ProtegeError):
    """A worker died of its work, as often as Dask tries."""


def readable_error(
    error: BaseException, settings: DaskSettings, workers: int, work: str = ""
) -> BaseException:
    """The error itself, or a sentence for the death of a worker or of the whole cluster."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        place = work or str(error.task)[:-KEY_DIGITS]
        had = error.last_worker.memory_limit / (1 << 30)
        each = f"each of the {workers:,} workers" if workers > 1 else "the only worker"
        return WorkerKilled(
            f"a worker was killed {error.allowed_failures + 1} times at {place}, most likely for "
            f"memory: {each} had {had:.1f} GiB. {_remedy(settings, workers)}"
        )
    if isinstance(error, CancelledError):
        where = settings.address or "this machine"
        return ProtegeError(
            f"the Dask cluster at {where} has gone away during {work or 'the work'}: start it "
            "again. The same command then goes on from there"
        )
    return error


def _remedy(settings: DaskSettings, workers: int) -> str:
    lower = "Lower options.batch_size, or images_per_shard of its images"
    if settings.address:
        return f"{lower}, or give the workers of {settings.address} more memory"
    if workers == 1:
        return f"{lower}, or take a machine with more memory"
    return f"{lower}, or share the memory among fewer: PROTEGE_DASK__WORKERS={max(1, workers // 2)}"


@contextmanager
def report_restarts() -> Iterator[None]:
    """Log in our words what the nannies of a local cluster, which live in this process, warn of."""
    handler, nannies = _Restarts(), logging.getLogger(NANNY)
    nannies.addHandler(handler)
    try:
        yield
    finally:
        nannies.removeHandler(handler)


class _Restarts(logging.Handler):
    """Makes a line of a restart, and of its reason where it was memory."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "memory budget" in text:
            logger.warning("a worker came near to its memory limit and was stopped")
        elif text.startswith("Restarting worker"):
            logger.warning("a worker has died; another one takes up its work")
