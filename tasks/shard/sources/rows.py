"""Rows: a table of text, as spreadsheets, pandas and people write it.

In: a list. Out: its rows, each with the number of its line. Encoding and separator are found out.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.errors import ProtegeError
from infra.store import Store

DELIMITERS = ",;\t|"
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
EXCEL_MARK = "sep="  # Excel's own line, which names the separator
LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Row:
    """The values of a row by the names of their columns; lines count from 1."""

    line: int
    values: dict[str, Any]


def read_rows(store: Store, name: str) -> list[Row]:
    """The rows of a list, without empty ones. Raises ProtegeError, with the line."""
    place, suffix = f"{store.uri}/{name}", f".{name.lower().rpartition('.')[2]}"
    text = _decode(store.read(name), place)
    if suffix == ".txt":
        lines = enumerate(text.splitlines(), 1)
        return [Row(line, {"uri": content}) for line, content in lines if content.strip()]
    return list(_objects(text, place) if suffix in LINES else _table(text, suffix, place))


def _decode(data: bytes, place: str) -> str:
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    # UTF-16 without a mark: every other byte of its first line is zero.
    if encoding == "utf-8" and data[:2].count(0) == 1:
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ProtegeError(
            f"{place}, line {line}: this is not a list in UTF-8 text ({error.reason}). Save it "
            "as UTF-8"
        ) from None


def _objects(text: str, place: str) -> Iterator[Row]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            values = json.loads(content)
        except ValueError as error:
            raise ProtegeError(f"{place}, line {line}: this is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise ProtegeError(f"{place}, line {line}: an object is needed, as {{'uri': ...}}")
        yield Row(line, values)


def _table(text: str, suffix: str, place: str) -> Iterator[Row]:
    delimiter = "\t" if suffix == ".tsv" else _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    names: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells) or cells[0].lower().startswith(EXCEL_MARK):
                continue
            if names is None:
                names = _names(cells, f"{place}, line {reader.line_num}")
                continue
            _check_width(cells, names, f"{place}, line {reader.line_num}")
            yield Row(reader.line_num, dict(zip(names, cells)))
    except csv.Error as error:
        raise ProtegeError(
            f"{place}, line {reader.line_num}: this is not a list in UTF-8 text: {error}"
        ) from None


def _names(cells: list[str], place: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise ProtegeError(f"{place}: two columns have the name {twice!r}")
    return names


def _check_width(cells: list[str], names: list[str], place: str) -> None:
    if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
        raise ProtegeError(
            f"{place}: {len(cells)} values for {len(names)} columns ({', '.join(names)}). Put a "
            "value that holds the separator into double quotes"
        )


def _delimiter(text: str) -> str:
    """What separates most columns in the line of their names; a comma, when nothing does."""
    lines = (line for line in text.splitlines() if line.strip())
    first = next((line for line in lines if not line.lower().startswith(EXCEL_MARK)), "")
    try:
        widths = {mark: len(next(csv.reader([first], delimiter=mark), [])) for mark in DELIMITERS}
    except csv.Error:
        return ","  # whose reader names the line
    return max(widths, key=lambda mark: widths[mark])
