"""Unusable: why an image cannot be used.

In: a reason of `REASONS` and a detail in words. Out: an exception, whose parts become a row of the
table of rejects.

    raise Unusable("too_many_pixels", "65535 x 65535 by its header")
"""

from dataclasses import dataclass
from typing import Literal, get_args

Reason = Literal[
    "unreadable",
    "empty",
    "not_an_image",
    "too_many_pixels",
    "damaged",
    "unsupported",
    "crashed",
    "not_finite",
]

REASONS: tuple[str, ...] = get_args(Reason)


class Unusable(Exception):
    """An image that cannot be used, with the reason for the table of rejects."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason: Reason = reason
        self.detail = " ".join(detail.split())[:200]
        super().__init__(reason, self.detail)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True)
class Limits:
    """What is refused by its header, before it is decoded.

    The default is the most that the options of `shard` admit: it decides, later stages follow.
    """

    max_pixels: int = 1_000_000_000

    def check_size(self, width: int, height: int) -> None:
        """Raises Unusable for a size beyond the limit, and for one without pixels."""
        if width * height > self.max_pixels:
            raise Unusable("too_many_pixels", f"{width} x {height} by its header")
        if width * height == 0:
            raise Unusable("damaged", f"{width} x {height} by its header")
