"""Errors: `ProtegeError`, which the user can correct, and the time as files say it.

A `ProtegeError` says what is wrong, with the value, and what to do about it. The command line and
the flows print it as it is; every other exception is a defect and keeps its traceback.
"""

import time


class ProtegeError(Exception):
    """Something that the user can correct: the message names the value and the remedy."""


def describe_error(error: BaseException) -> str:
    """The error as a sentence, with its class when it is no ProtegeError."""
    return str(error) if isinstance(error, ProtegeError) else f"{type(error).__name__}: {error}"


def utc_now() -> str:
    """Now, as `2026-01-31T23:59:59Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
