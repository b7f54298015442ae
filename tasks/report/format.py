"""Format: how figures are written on the page.

In: a number, or None for what was not measured. Out: text.
"""

import math

NOT_MEASURED = "\u2013"  # a dash
THIN = "\u202f"  # narrow space that does not break, between a figure and its unit


def percent(share: float | None, digits: int = 1) -> str:
    """0.9312 -> `93.1 %`."""
    if share is None:
        return NOT_MEASURED
    return f"{100 * share:.{digits}f}{THIN}%".replace("-", "\u2212")


def points(share: float | None, digits: int = 1) -> str:
    """A difference of two shares in percentage points, with its sign: 0.08 -> `+8.0`."""
    return NOT_MEASURED if share is None else f"{100 * share:+.{digits}f}".replace("-", "\u2212")


def number(figure: float | None, digits: int = 3) -> str:
    """A figure with a fixed number of decimals."""
    return NOT_MEASURED if figure is None else f"{figure:.{digits}f}".replace("-", "\u2212")


def thousands(count: int) -> str:
    """12345 -> `12,345`."""
    return f"{count:,}"


def probability(log_odds: float | None) -> str:
    """The probability of a log-odds; close to 1 as a bound, since digits would not tell more."""
    if log_odds is None:
        return NOT_MEASURED
    p = 1 / (1 + math.exp(-max(-700.0, log_odds)))
    if p >= 0.9995:
        return "> 0.999"
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


def duration(seconds: float) -> str:
    """`0.8 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest}{THIN}s"
    if minutes < 60:
        return f"{minutes}{THIN}min {rest:02d}{THIN}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,}{THIN}h {minutes:02d}{THIN}min"
