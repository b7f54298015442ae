"""Suspect classes: classes that filled with images of other things.

In: the `classes` table of topk, the `metrics` of evaluate, and K. Out: a `SuspectClass` for each
class that looks wrong, with a sentence that says why. A pure function of the tables.

    for suspect in find_suspect_classes(read_classes(chosen), read_metrics(measured), k=16_000): ...

A committee's estimate (`tasks/agreement`), where there is one, takes the place of the last two
signs: a class of which it says less than half is suspect, unless it says so of most classes.

A class is suspect by one of three signs. Each must exceed what chance alone does to counts: bounds
are so many standard deviations wide that in FALSE_FLAGS of all campaigns, at most, chance makes any
class suspect.

*Audit.* Where there is an audit list, it decides: a class of which clearly less than half is what
it was chosen for is suspect, and one of which clearly more than half is, is not, whatever else.

*Crowding.* A teacher often mistakes things that it has never seen for one class or two, with full
confidence; there the candidates crowd at log-odds that the members of other classes hardly reach.
A member is a candidate with p > 0.5. The height is the log-odds at which the median class has only
SPARSE_SHARE of its members left. A class is suspect when the number of its candidates above that
height exceeds MIN_CROWD_RATIO times the members of a small class (the lower quartile, which a flood
does not move) and MIN_MEMBER_SHARE of its own members, and could fill MIN_K_SHARE of its K places.
A class that is merely frequent, or merely easy, passes; a class that is both, to a high degree, is
reported, too. This compares a class with the others, so these must be sound: a teacher that is not
clearly right on more than half of the test images tells nothing this way. On pictures of ten kinds,
one that was right on 24 % crowded in the only class that it knew, where 40 of 40 were right.

*Contradiction.* The teacher puts most of the class's images into another class when they are
slightly rotated or shifted.

The thresholds come from eight teachers (small_resnet_16, 600 to 1,000 steps on 50 to 100 MNIST
digits). In piles of 3,000 digits, alone or with 8,000 badly cut digits, the crowd of no class
exceeds 0.77 times the members of a small class. With 6,000 pieces of photos instead, the 13 classes
that are full of them at K = 200 have a ratio of 1.26 or more, and a crowd of 0.23 or more of their
members, where the median class has 0.1 by definition: all are reported. Six weaker teachers
(small_resnet_8, 150 or 300 steps) gave a ratio of 0.96 at most in ordinary piles, and five of six
such classes are reported. A class with a small flood, which fills a small K only (2 of 15 at
K = 100), and a class that has as many members of its own are not found: a class that is not
reported may still be wrong.

Agreement between views was 0.78 or more in all of these piles, and near 1 for photos: it does not
find them. It finds classes that a teacher recognises by an accidental feature.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tasks.evaluate.interval import wilson
from tasks.topk import HISTOGRAM_EDGES

FALSE_FLAGS = 0.05  # share of campaigns in which chance alone may make a class suspect
NUM_SIGNS = 3
HALF = 0.5

MIN_CLASSES = 5  # with fewer, the classes to compare with may be the ones that are wrong
MIN_MEMBERS = 10  # a share of fewer images than these is chance
SPARSE_SHARE = 0.1
MIN_CROWD_RATIO = 1.1
MIN_MEMBER_SHARE = 0.15
MIN_K_SHARE = 0.5
LOW_AGREEMENT = 0.6
MIN_AGREEMENT_GAP = 0.2  # below the median class, lest a teacher that is weak everywhere be blamed

CHOSEN = "chosen"  # what `metrics` calls the model of the measures of a choice

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SuspectClass:
    """A class that may be wrong, and why."""

    label: int
    name: str
    reason: str


def find_suspect_classes(
    classes: pa.Table,
    metrics: pa.Table,
    k: int,
    teacher: str = "teacher",
    precision: pa.Table | None = None,
) -> list[SuspectClass]:
    """The classes that look wrong, in the order of their labels; a class is listed once.

    `teacher` is what `metrics` calls the model that scored the candidates, `precision` what a
    committee says of each class, which takes the place of crowding and contradiction.
    """
    if not len(classes):
        return []
    names = dict(zip(classes["label"].to_pylist(), classes["name"].to_pylist(), strict=True))
    deviations = NormalDist().inv_cdf(1 - FALSE_FLAGS / NUM_SIGNS / len(classes))
    if precision is not None:
        reasons = dict(_disagreed(precision))
    else:
        reasons = dict(_contradicted(metrics, deviations))
        if not _is_weak(metrics, teacher, deviations):
            reasons |= dict(_crowded(classes, k, deviations))
    for label, reason in _audited(metrics, deviations):
        reasons[label] = reason
    return [
        SuspectClass(label, names[label], reasons[label])
        for label in sorted(reasons)
        if label in names and reasons[label]
    ]


def _is_weak(metrics: pa.Table, teacher: str, deviations: float) -> bool:
    """Whether the teacher was measured, and is not clearly right on more than half of a set."""
    found = [
        row for row in _rows(metrics, teacher, "top1") if row["label"] is None and not row["slice"]
    ]
    return any(wilson(row["value"], row["count"], deviations)[0] <= HALF for row in found)


def _audited(metrics: pa.Table, deviations: float) -> Iterator[tuple[int, str]]:
    """(label, reason) of each class that the audit list decides about; no reason clears it."""
    for row in _rows(metrics, CHOSEN, "precision"):
        if row["label"] is None:
            continue
        low, high = wilson(row["value"], row["count"], deviations)
        if high < HALF:
            right = round(row["value"] * row["count"])
            count = f"{row['count']:,} chosen images in the audit list"
            yield row["label"], f"of {count}, {right:,} are of this class"
        elif low > HALF:
            yield row["label"], ""


def _disagreed(precision: pa.Table) -> Iterator[tuple[int, str]]:
    """(label, reason) of each class of which less than half is right, as a committee says."""
    known = [row for row in precision.to_pylist() if row["estimate"] is not None]
    doubted = [row for row in known if row["estimate"] < HALF]
    if len(doubted) > len(known) / 2:
        return  # of what most classes are, the committee itself knows too little
    for row in doubted:
        yield (
            row["label"],
            f"all networks of a committee agree with {row['unanimous']:,} of {row['sampled']:,} of "
            f"its images, so that {row['estimate']:.0%} may be right ({row['low']:.0%} to "
            f"{row['high']:.0%})",
        )


def _crowded(classes: pa.Table, k: int, deviations: float) -> Iterator[tuple[int, str]]:
    """(label, reason) of each class with a crowd above the height of the median class."""
    if len(classes) < MIN_CLASSES:
        return
    above_CB = counts_above(classes)
    members_C = above_CB[:, _bin_of(0)]
    small_class = int(np.sort(members_C)[(len(members_C) - 1) // 4])
    median_B = median_class(above_CB)
    median_members = median_B[_bin_of(0)]
    sparse_B = median_B <= SPARSE_SHARE * median_members
    if small_class < MIN_MEMBERS or not sparse_B.any():
        return
    height = int(np.argmax(sparse_B))
    crowd_C = above_CB[:, height]
    suspect_C = _exceeds(crowd_C, MIN_CROWD_RATIO, np.full_like(crowd_C, small_class), deviations)
    suspect_C &= _exceeds(crowd_C, MIN_MEMBER_SHARE, members_C, deviations)
    suspect_C &= crowd_C >= MIN_K_SHARE * k
    for row in np.flatnonzero(suspect_C).tolist():
        reason = (
            f"{crowd_C[row]:,} images have log-odds above {HISTOGRAM_EDGES[height]:g}, where the "
            f"median class has {median_B[height]:,} of its {median_members:,}; the teacher may "
            "mistake things that it has never seen for this class"
        )
        yield classes["label"][row].as_py(), reason


def _exceeds(
    counts_C: Counts, factor: float, others_C: Counts, deviations: float
) -> npt.NDArray[np.bool_]:
    """Whether counts are more than so many times others, by more than chance does to both."""
    noise_C = np.sqrt(counts_C + factor**2 * others_C)
    exceeds_C: npt.NDArray[np.bool_] = counts_C > factor * others_C + deviations * noise_C
    return exceeds_C


def _contradicted(metrics: pa.Table, deviations: float) -> Iterator[tuple[int, str]]:
    """(label, reason) of each class whose changed views the teacher puts into other classes."""
    rows = [row for row in _rows(metrics, CHOSEN, "view_agreement") if row["label"] is not None]
    if not rows:
        return
    median = float(np.median([row["value"] for row in rows]))
    for row in rows:
        # The views of an image are alike, so that the images count as evidence, not the views.
        _, high = wilson(row["value"], row["count"], deviations)
        if high < LOW_AGREEMENT and row["value"] < median - MIN_AGREEMENT_GAP:
            reason = (
                f"after a slight rotation or shift, only {row['value']:.0%} of its images stay in "
                f"the class (median class: {median:.0%}); the teacher may recognise them by an "
                "accidental feature"
            )
            yield row["label"], reason


def _rows(metrics: pa.Table, model: str, measure: str) -> list[dict[str, Any]]:
    wanted = (pc.field("model") == model) & (pc.field("measure") == measure)
    rows: list[dict[str, Any]] = metrics.filter(wanted).to_pylist()
    return rows


def counts_above(classes: pa.Table) -> Counts:
    """Candidates at or above the lower edge of each bin of the histograms, shape (C, bins)."""
    histogram = classes["histogram"].combine_chunks()
    values: Counts = histogram.flatten().to_numpy().astype(np.int64)
    histogram_CB = values.reshape(len(classes), -1)
    return histogram_CB[:, ::-1].cumsum(axis=1)[:, ::-1]


def median_class(above_CB: Counts) -> Counts:
    """The median over classes for each bin; of two in the middle, the upper."""
    median_B: Counts = np.sort(above_CB, axis=0)[len(above_CB) // 2]
    return median_B


def _bin_of(log_odds: float) -> int:
    return int(np.searchsorted(HISTOGRAM_EDGES, log_odds))
