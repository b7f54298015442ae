"""Origin: where an exported model comes from, for its record and its card."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """What is known of a model beside its weights; empty where it is not.

    `method` is what its recipe does, in words; `top1` the share of the `test_images` of its
    campaign that it was right on.
    """

    address: str = ""
    campaign: str = ""
    recipe: str = ""
    method: str = ""
    top1: float | None = None
    test_images: int | None = None


UNKNOWN = Origin()
