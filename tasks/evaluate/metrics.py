"""Metrics: the table of everything that was measured.

In: rows, as protocols yield them. Out: the table, and figures out of it.

    metrics = read_metrics(measured)
    figure(metrics, "student", "top1")
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from infra.errors import ProtegeError
from tasks import contract, tables
from tasks.contract import Output

METRICS = "metrics.parquet"


@dataclass(frozen=True)
class Row:
    """A figure of one model on one data set, of all classes unless `label` says of which.

    `slice` names a part of the data set; it is empty for the whole. `count` is the number of images
    that the figure rests on.
    """

    model: str
    dataset: str
    measure: str
    value: float
    count: int
    label: int | None = None
    slice: str = ""


def metrics_table(rows: Iterable[Row]) -> pa.Table:
    """The `metrics` table of these rows. A figure of nothing has no row."""
    values = [asdict(row) for row in rows]
    bad = next((row for row in values if not math.isfinite(row["value"])), None)
    assert bad is None, f"this is no figure: {bad}"
    return pa.Table.from_pylist(values, schema=tables.METRICS)


def read_metrics(measured: Output) -> pa.Table:
    """The `metrics` table of an output of evaluate."""
    return contract.read_part(measured.store, METRICS, tables.METRICS)


def figure(metrics: pa.Table, model: str, measure: str, dataset: str | None = None) -> float | None:
    """A figure over all classes of a whole data set, or None when it was not measured.

    Without `dataset`, that of the only one. Raises ProtegeError when there are several.
    """
    wanted = (pc.field("model") == model) & (pc.field("measure") == measure)
    wanted &= (pc.field("slice") == "") & pc.field("label").is_null()
    if dataset is not None:
        wanted &= pc.field("dataset") == dataset
    found = metrics.filter(wanted)
    if len(found) > 1:
        names = ", ".join(found["dataset"].to_pylist())
        raise ProtegeError(f"{measure} of {model} was measured on {names}: say on which")
    return float(found["value"][0].as_py()) if len(found) else None
