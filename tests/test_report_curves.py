"""Curves of the report: log-odds against rank never rise, whatever was left out as a copy."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from infra.store import Store, open_store
from tasks import tables
from tasks.contract import RowCounts
from tasks.report.choice import Choice
from tasks.report.curves import Curve, curves_of
from tasks.topk import CLASSES, HISTOGRAM_EDGES
from tests.builders.sources import CALM
from tests.builders.stories import put


def choice_of(root: Store, k: int, candidates: list[float], copies: list[bool]) -> Choice:
    """The choice of the best k candidates of a class that are no copies."""
    best = sorted(zip(candidates, copies), reverse=True)
    kept = [log_odds for log_odds, copy in best if not copy][:k]
    rows = [
        {"label": 0, "rank": rank, "image_id": rank, "log_odds": log_odds, "repeats": 1}
        for rank, log_odds in enumerate(kept)
    ]
    # As topk counts them: the copies, too.
    histogram, _ = np.histogram(candidates, HISTOGRAM_EDGES)
    row = {"label": 0, "name": "cat", "candidates": len(candidates), "kept": len(kept)}
    row |= {"kth_log_odds": kept[-1] if kept else None, "ties_at_edge": 1, "certified": True}
    row |= {"dropped_near_duplicates": sum(copies), "dropped_labelled": 0, "dropped_test": 0}
    row |= {"histogram": histogram.tolist()}
    counts = RowCounts(len(rows), len(rows), 0)
    parts = {
        "part-00000.parquet": (pa.Table.from_pylist(rows, schema=tables.CHOSEN), counts),
        CLASSES: (pa.Table.from_pylist([row], schema=tables.CLASSES), RowCounts(0, 0, 0)),
    }
    output = put(root, "topk", "topk", parts, {}, {"k": k, "top_p": 5})
    return Choice("topk", output, (), (), output)


def curve_of(folder: Path, k: int, candidates: list[float], copies: list[bool]) -> Curve:
    root = open_store(str(folder / f"{abs(hash((k, *candidates, *copies)))}"))
    (curve,) = curves_of(choice_of(root, k, candidates, copies), {0})
    return curve


tenths = st.integers(-200, 300).map(lambda number: number / 10)
pairs = st.lists(st.tuples(tenths, st.booleans()), min_size=1, max_size=60)


@CALM
@given(st.integers(1, 20), pairs)
def test_curve_never_rises(tmp_path: Path, k: int, pairs: list[tuple[float, bool]]) -> None:
    curve = curve_of(tmp_path, k, [value for value, _ in pairs], [copy for _, copy in pairs])
    # The candidates go on where the chosen images end.
    for ranks, heights in (curve.chosen, curve.candidates):
        assert (np.diff(ranks) >= 0).all()
        assert (np.diff(heights) <= 0).all()


def test_candidates_after_the_chosen_ones_begin_at_the_last_of_them(tmp_path: Path) -> None:
    """Ten copies of the best candidate are in the histogram, and not among the chosen."""
    candidates = [9.0] * 11 + [6.2, 4.2, 2.2, 0.2]
    copies = [False] + [True] * 10 + [False] * 4
    ranks, heights = curve_of(tmp_path, 2, candidates, copies).candidates
    assert (ranks[0], heights[0]) == (2, np.float32(6.2))
    assert heights[1] < heights[0]
    assert ranks[1] <= 3, "the copies take no rank; within a bin, nobody knows who was left out"
