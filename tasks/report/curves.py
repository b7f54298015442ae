"""Curves: log-odds against rank, of the chosen images and of the candidates after them.

In: the `classes` and `chosen` tables of a choice. Out: points for the plots.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.evaluate import counts_above, median_class
from tasks.report.choice import Choice
from tasks.topk import HISTOGRAM_EDGES

CURVE_POINTS = 120
END_RANKS = 3  # curves go on to this many times K

Points = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Curve:
    """Log-odds against rank (from 1): of the chosen images, and of the candidates after them."""

    label: int
    name: str
    chosen: Points
    candidates: Points


def curves_of(choice: Choice, labels: Collection[int]) -> list[Curve]:
    """The curves of these classes, in the order of the labels."""
    above_CB = counts_above(choice.classes)
    rows = choice.classes.select(["label", "name", "kept"]).to_pylist()
    chosen_labels = choice.chosen["label"].to_numpy()
    log_odds = choice.chosen["log_odds"].to_numpy()
    curves = []
    for row, above_B in zip(rows, above_CB, strict=True):
        if row["label"] in labels:
            first, last = np.searchsorted(chosen_labels, [row["label"], row["label"] + 1])
            points = _points(choice, above_B, log_odds[first:last].astype(np.float64))
            curves.append(Curve(row["label"], row["name"], *points))
    return curves


def median_curve(classes: pa.Table, k: int) -> Points:
    """The candidates of the median class."""
    return _histogram_points(median_class(counts_above(classes)), 0, END_RANKS * k)


def _points(
    choice: Choice, above_B: npt.NDArray[np.int64], log_odds: npt.NDArray[np.float64]
) -> tuple[Points, Points]:
    """The points of the chosen images and of the candidates after them."""
    kept, end = len(log_odds), END_RANKS * choice.k
    if not kept:
        # Where all classes compete with one another, a class may get nothing.
        candidates = _histogram_points(above_B, 0, end)
        return candidates, candidates
    places = np.unique(np.linspace(0, kept - 1, CURVE_POINTS).astype(int))
    chosen = (places + 1.0, log_odds[places])
    if not choice.by_score:
        return chosen, _histogram_points(above_B, 0, end)
    ranks, heights = _after(above_B, kept, float(log_odds[-1]))
    inside = ranks <= end
    # The histogram knows ranks only at the edges of its bins; join it to the last score.
    joined = np.append(float(kept), ranks[inside]), np.append(log_odds[-1], heights[inside])
    return chosen, joined


def _after(above_B: npt.NDArray[np.int64], kept: int, last: float) -> Points:
    """The candidates after the chosen ones, of which `last` is the lowest log-odds.

    The histogram also counts near-duplicates, which were dropped from among the chosen.
    """
    ranks, heights = _histogram_points(above_B, 0, int(above_B.max(initial=0)))
    after = heights < last
    dropped = max(0.0, float(ranks[~after].max(initial=0)) - kept)
    return np.maximum(ranks[after] - dropped, kept), heights[after]


def _histogram_points(above_B: npt.NDArray[np.int64], start: int, end: int) -> Points:
    """(rank, log-odds) at the edges of the histogram's bins, best first, from `start` to `end`."""
    # The first bin is open below: its edge is no log-odds of anything.
    counts, edges = above_B[:0:-1], HISTOGRAM_EDGES[-2:0:-1]
    inside = (counts > start) & (counts <= end)
    return counts[inside].astype(np.float64), edges[inside].astype(np.float64)
