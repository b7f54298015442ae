"""Suspects: classes that filled with things that are none of their kind, noticed without labels.

In: the `classes` table of topk, the `metrics` of evaluate, and K. Out: a `Suspect` for each class
that looks wrong, with a sentence that says why. A pure function of the tables.

    for suspect in suspects(read_classes(chosen), read_metrics(measured), k=16_000): ...

Two signs are looked for.

*Crowding.* What a teacher has never seen, it often takes for one class or two, and with full
confidence; there the candidates crowd at heights that the members of other classes hardly reach.
The height is the log-odds at which the median class has a tenth of its members left, a member
being a candidate with p > 0.5. A class is suspect when, above it, it has more candidates than a
small class has members (CROWD; the lower quartile, which a flood does not move), more of its own
members than is usual (HELD), and enough to take half of its K places (OF_K). A class that is
merely frequent, or merely easy, passes; one that is much of both is named, too.

*Contradiction.* The teacher takes most of the class's images for something else once they are
turned or shifted a little.

The thresholds come from eight teachers (small_resnet_16, 600 to 1,000 steps on 50 to 100 MNIST
digits). In piles of 3,000 digits, alone or with 8,000 badly cut digits, no class has more than 0.77
for CROWD. With 6,000 pieces of photos instead, the 13 classes that are full of them at K = 200 have
1.26 or more, and 0.23 or more for HELD, where the median class has 0.1 by definition: all are
named. Six weaker teachers (small_resnet_8, 150 or 300 steps) gave 0.96 at most in ordinary piles,
and five of six such classes are named. A class with a small flood, which fills a small K only (2 of
15 at K = 100), and one that holds as many of its own go unnoticed: not to be named is no proof.

Agreement between views was 0.78 or more in all of these piles, and near 1 for photos: it does not
notice them, and stands here for accidents of another kind.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.topk import HISTOGRAM_EDGES

FEWEST_CLASSES = 5  # with fewer, the classes to compare with may be the ones that are wrong
FEWEST_MEMBERS = 10  # a share of fewer images than these is chance
LEFT_OVER = 0.1
CROWD = 1.1
HELD = 0.15
OF_K = 0.5
LOW_AGREEMENT = 0.6
BELOW_TYPICAL = 0.2


@dataclass(frozen=True)
class Suspect:
    """A class to look at, and why."""

    label: int
    name: str
    reason: str


def suspects(classes: pa.Table, metrics: pa.Table, k: int) -> list[Suspect]:
    """The classes that look wrong, in the order of their labels; a class is named once."""
    names = dict(zip(classes["label"].to_pylist(), classes["name"].to_pylist(), strict=True))
    found = dict(_contradicted(metrics))
    found.update(_crowded(classes, k))
    return [Suspect(label, names[label], found[label]) for label in sorted(found) if label in names]


def _crowded(classes: pa.Table, k: int) -> Iterator[tuple[int, str]]:
    if len(classes) < FEWEST_CLASSES:
        return
    above_CB = counts_above(classes)
    members_C = above_CB[:, _bin_of(0)]
    small = int(np.sort(members_C)[(len(members_C) - 1) // 4])
    typical_B = median_class(above_CB)
    sparse_B = typical_B <= LEFT_OVER * typical_B[_bin_of(0)]
    if small < FEWEST_MEMBERS or not sparse_B.any():
        return
    height = int(np.argmax(sparse_B))
    usual = f"{typical_B[height]:,} of its {typical_B[_bin_of(0)]:,}"
    for row, label in enumerate(classes["label"].to_pylist()):
        crowd, members = int(above_CB[row, height]), int(members_C[row])
        if crowd > CROWD * small and crowd > HELD * members and crowd >= OF_K * k:
            reason = (
                f"{crowd:,} images have log-odds above {HISTOGRAM_EDGES[height]:g}, where a "
                f"typical class has {usual}; the teacher may take things that it has never seen "
                "for this class"
            )
            yield label, reason


def _contradicted(metrics: pa.Table) -> Iterator[tuple[int, str]]:
    agreement = {
        row["label"]: row["value"]
        for row in metrics.to_pylist()
        if row["measure"] == "view_agreement" and row["label"] is not None
    }
    if not agreement:
        return
    typical = float(np.median(list(agreement.values())))
    for label, value in agreement.items():
        if value < min(LOW_AGREEMENT, typical - BELOW_TYPICAL):
            reason = (
                f"turned or shifted a little, its images stay in the class {value:.0%} of the "
                f"time (typical: {typical:.0%}); the teacher knows them by something accidental"
            )
            yield label, reason


def counts_above(classes: pa.Table) -> npt.NDArray[np.int64]:
    """Candidates at or above the lower edge of each bin, shape (C, bins)."""
    histogram_CB = np.array(classes["histogram"].to_pylist(), np.int64)
    return histogram_CB[:, ::-1].cumsum(axis=1)[:, ::-1]


def _bin_of(log_odds: float) -> int:
    return int(np.searchsorted(HISTOGRAM_EDGES, log_odds))


def median_class(above_CB: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The median over classes for each bin, the upper of two in the middle."""
    middle_B: npt.NDArray[np.int64] = np.sort(above_CB, axis=0)[len(above_CB) // 2]
    return middle_B
