"""Errors: `ProtegeError`, which the user can correct, and the time as files say it.

A `ProtegeError` says what is wrong, with the value, and what to do about it. The command line and
the flows print it as it is; every other exception is a defect and keeps its traceback.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class ProtegeError(Exception):
    """Something that the user can correct: the message names the value and the remedy."""


class StoreAway(ProtegeError):
    """A store that does not answer now, and may do so again."""


@contextmanager
def usable_root(root: str) -> Iterator[None]:
    """Say which root it was when a file system refuses. Raises ProtegeError."""
    try:
        yield
    except OSError as error:
        raise ProtegeError(
            f"the root {root} cannot be used: {error}. Give another one with --root or "
            "PROTEGE_ROOT, or mend its rights"
        ) from error


def name_options(error: BaseException, full_name: Callable[[str], str]) -> None:
    """Put the full names of options in the sentence: a stage knows only its `options.<field>`."""
    if error.args and isinstance(error.args[0], str):
        text = re.sub(r"\boptions\.([a-z_]+)", lambda found: full_name(found[1]), error.args[0])
        error.args = (text, *error.args[1:])


def describe_error(error: BaseException) -> str:
    """The error as a sentence, with its class when it is no ProtegeError."""
    return str(error) if isinstance(error, ProtegeError) else f"{type(error).__name__}: {error}"


def utc_now() -> str:
    """Now, as `2026-01-31T23:59:59Z`."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
