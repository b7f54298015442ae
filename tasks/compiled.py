"""Compiled: a loop as numba compiles it, where NumPy would need large arrays between its steps.

In: a function of arrays and numbers. Out: the same, compiled when it is first called, in about a
second. What was compiled is kept beside the file of the loop, or for the user, where either can be
written. Importing numba takes 0.2 s, so import a module with such loops where it is needed.

    @compiled
    def _flag_near_known(phashes_N, known_K, ...): ...
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(loop: Loop) -> Loop:
    """The compiled loop, which lets other threads run meanwhile.

    Sums are taken in any order, so they should be of whole numbers, or need not be exact.
    """
    try:
        return cast(Loop, numba.njit(nogil=True, fastmath=True, cache=True)(loop))
    except RuntimeError:  # no folder can be written, so that every process compiles it
        return cast(Loop, numba.njit(nogil=True, fastmath=True)(loop))
