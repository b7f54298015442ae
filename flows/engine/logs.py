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

LOGGERS = tuple(logging.getLogger(name) for name in ("flows", "tasks", "models", "infra"))


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


def log_once(logger: logging.Logger, kinds: tuple[type[BaseException], ...]) -> None:
    """Log errors of these kinds without Prefect's repetition of them, a traceback of its engine."""

    def is_new(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], kinds))

    logger.addFilter(is_new)


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
