"""Answer files: a row for each image, as CSV or Parquet, written while the answers come.

In: answers, one after the other. Out: a file that appears when all are written, or lines on a
stream. The columns are path, label_1, probability_1, label_2, ..., problem.

    with answer_file("answers.parquet", num_labels=5) as add: add(answer)
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ProtegeError
from infra.store import split_uri
from tasks.inference.answers import Answer

ENDINGS = (".csv", ".parquet")
ROWS_PER_GROUP = 10_000
DIGITS = 8  # of a probability in text; float32 has no more

Add = Callable[[Answer], None]
Row = list[str | float | None]


def check_ending(out: str) -> None:
    """Raises ProtegeError for a file of another kind."""
    if not out.lower().endswith(ENDINGS):
        raise ProtegeError(f"{out}: answers are written as {' or '.join(ENDINGS)}")


def answer_schema(num_labels: int) -> pa.Schema:
    """The columns of answers with so many labels each."""
    fields = [pa.field("path", pa.string(), nullable=False)]
    for place in range(1, num_labels + 1):
        fields += [(f"label_{place}", pa.string()), (f"probability_{place}", pa.float64())]
    return pa.schema([*fields, ("problem", pa.string())])


def answer_row(answer: Answer, num_labels: int) -> Row:
    """The values of an answer, in the order of the columns."""
    found: Row = [None] * (2 * num_labels)
    if answer.prediction is not None:
        found[::2] = answer.prediction.labels
        found[1::2] = answer.prediction.probabilities
    return [answer.path, *found, str(answer.problem) if answer.problem else None]


@contextmanager
def answer_file(out: str, num_labels: int) -> Iterator[Add]:
    """What adds an answer to a file, which is published when the block ends without an error.

    Raises ProtegeError when it cannot be written.
    """
    check_ending(out)
    store, name = split_uri(out)
    write = csv_file if name.lower().endswith(".csv") else parquet_file
    try:
        with store.draft(name) as draft:
            with write(draft.file, num_labels) as add:
                yield add
            draft.replace()
    except OSError as error:
        raise ProtegeError(f"{out} cannot be written: {error}") from error


@contextmanager
def csv_file(file: BinaryIO, num_labels: int) -> Iterator[Add]:
    """What adds an answer to an open file, as a line of CSV in UTF-8."""
    text = io.TextIOWrapper(file, "utf-8", newline="", line_buffering=True)
    try:
        yield csv_lines(text, num_labels)
    finally:
        # The file is its owner's to close.
        text.detach()


def csv_lines(text: TextIO, num_labels: int) -> Add:
    """What writes an answer as a line of CSV, after one with the names of the columns."""
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(answer_schema(num_labels).names)

    def add(answer: Answer) -> None:
        row = answer_row(answer, num_labels)
        writer.writerow(
            f"{value:.{DIGITS}g}" if isinstance(value, float) else value for value in row
        )

    return add


@contextmanager
def parquet_file(file: BinaryIO, num_labels: int) -> Iterator[Add]:
    """What adds an answer to an open file, as a row of Parquet; rows are written in groups."""
    schema = answer_schema(num_labels)
    with pq.ParquetWriter(file, schema) as writer:
        rows: list[Row] = []

        def write_group() -> None:
            writer.write_table(_table(rows, schema))
            rows.clear()

        def add(answer: Answer) -> None:
            rows.append(answer_row(answer, num_labels))
            if len(rows) == ROWS_PER_GROUP:
                write_group()

        yield add
        write_group()


def answers_table(answers: Iterable[Answer], num_labels: int) -> pa.Table:
    """All answers as one table in memory."""
    rows = [answer_row(answer, num_labels) for answer in answers]
    return _table(rows, answer_schema(num_labels))


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows)) if rows else [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)
