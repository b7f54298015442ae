"""Logs: what the stages log arrives in the log of the flow run.

In: the records of our own loggers, of any thread. Out: lines in the log of the flow run, or of the
task run whose stage logged them.

    with in_run_log():
        logging.getLogger("tasks.contract").info("score: reads ...")
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.exceptions import MissingContextError

OWN = ("flows", "tasks", "models", "infra")
LOGGERS = tuple(logging.getLogger(name) for name in OWN)
# What Prefect's engine says of a task that `readable` has ended as Failed.
REPETITIONS = ("Task run failed with state: ", "Finished in state Failed(")
LOGGED = "logged_in_run"  # an attribute of errors; not all of them can be hashed


class _RunLog(logging.Handler):
    """Hands records to Prefect's logger of the run."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._logger = get_run_logger()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            logger = self._current()
            if _run_id(logger) == _run_id(self._logger):
                logger.log(record.levelno, record.getMessage(), exc_info=record.exc_info)
        except Exception:
            self.handleError(record)

    def _current(self) -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
        try:
            return get_run_logger()
        except MissingContextError:
            # A thread of a pool: it knows of no run.
            return self._logger


def log_error(error: BaseException) -> None:
    """Log the sentence of an error in the run, unless a stage of it has logged it already."""
    if not hasattr(error, LOGGED):
        setattr(error, LOGGED, True)
        get_run_logger().error(str(error))


def log_once(logger: logging.Logger) -> None:
    """Keep out what Prefect's engine says again: of an error that was logged, of a failed state."""
    logger.addFilter(_is_new)


@contextmanager
def quiet_console() -> Iterator[None]:
    """Keep errors without a traceback out of the terminal: the command says why it ends."""
    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(_is_for_terminal)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_is_for_terminal)


def _is_new(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return not record.getMessage().startswith(REPETITIONS)
    known = hasattr(error, LOGGED)
    setattr(error, LOGGED, True)
    return not known


def _is_for_terminal(record: logging.LogRecord) -> bool:
    has_traceback = bool(record.exc_info and record.exc_info[1])
    ours = record.name.startswith("prefect.") or record.name.startswith(OWN)
    return record.levelno < logging.ERROR or has_traceback or not ours


def _run_id(logger: "logging.Logger | logging.LoggerAdapter[logging.Logger]") -> object:
    extra = logger.extra if isinstance(logger, logging.LoggerAdapter) else None
    return extra and extra["flow_run_id"]


@contextmanager
def in_run_log() -> Iterator[None]:
    """Log in the flow run, from INFO on, to the end of the block. Inside a flow."""
    handler = _RunLog()
    before = [(logger, logger.level, logger.propagate) for logger in LOGGERS]
    for logger in LOGGERS:
        logger.addHandler(handler)
        logger.setLevel(min(logger.level or logging.INFO, logging.INFO))
        # Prefect's loggers write to the console, too; once is enough.
        logger.propagate = False
    try:
        yield
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
