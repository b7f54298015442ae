"""Interval: how far a share that was counted may be from the true one.

low, high = wilson(share=0.9, count=40, deviations=2.0)
"""

import math


def wilson(share: float, count: int, deviations: float) -> tuple[float, float]:
    """Wilson's interval of a share among `count` images, so many standard deviations wide.

    "Probable inference" (Wilson 1927). Unlike share ± deviations, it holds for shares of 0 and 1.
    """
    if not count:
        return 0.0, 1.0
    square = deviations**2 / count
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
