"""Terminal: what a command says beside its result, on standard error.

In: sentences. Out: lines as they are: a path or a name of the user is never taken for markup.

    note("starting billion-scale")
"""

import sys

_quiet = False


def be_quiet() -> None:
    """Say nothing from now on but errors and the result."""
    global _quiet  # noqa: PLW0603  there is one terminal
    _quiet = True


def is_quiet() -> bool:
    """Whether nothing is to be said."""
    return _quiet


def note(text: str) -> None:
    """Print a line, unless the command was asked to be quiet."""
    if not _quiet:
        print(text, file=sys.stderr, flush=True)  # noqa: T201  what a command says
