"""A source that is a list: a table of text with a path in each row, or a path in each line.

`.csv` and `.tsv` have a line of column names, in whatever way spreadsheets separate and encode
them; `.jsonl` has an object in each line; `.txt` has a path in each line.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from infra.errors import ProtegeError
from infra.store import Address, Store, open_object
from tasks.shard.sources.columns import choose_column, describe_columns
from tasks.shard.sources.files import UNKNOWN_VERSION, SourceFile
from tasks.shard.sources.labels import LABEL_NAMES, TAG_NAMES, label_text, tags_of
from tasks.shard.sources.names import words
from tasks.shard.sources.reading import Reading
from tasks.shard.sources.rows import Row, read_rows

PATH_NAMES = words(
    "uri path file filename file_name filepath file_path image img image_path img_path "
    "image_file image_uri url"
)
# What pandas makes of integers in a column with gaps.
FLOATS = re.compile(r"-?\d+\.0+")
ANY_SIZE = -1


@dataclass(frozen=True)
class _Entry:
    """A file of a list, and the line that names it."""

    file: SourceFile
    line: int


def read_list(store: Store, name: str, reading: Reading) -> list[SourceFile]:
    """The files that a list names, each once. Raises ProtegeError, with the line."""
    place = f"{store.uri}/{name}"
    rows = read_rows(store, name)
    if not rows:
        return []
    path, label, tags = _columns(rows, reading, place)
    rows = _without_floats(rows, label)
    found: dict[str, _Entry] = {}
    for row in rows:
        entry = _entry(row, (path, label, tags), store, place)
        known = found.setdefault(entry.file.uri, entry)
        if known.file.label != entry.file.label:
            raise ProtegeError(
                f"{place}: lines {known.line} and {entry.line} name one file, {entry.file.key}, "
                f"with two labels: {known.file.label!r} and {entry.file.label!r}"
            )
    return [entry.file for entry in found.values()]


def _columns(
    rows: Sequence[Row], reading: Reading, place: str
) -> tuple[str, str | None, str | None]:
    """The columns of the path, the label and the tags."""
    kinds = {name: "" for row in rows for name in row.values}
    path = choose_column(kinds, reading.columns.image, PATH_NAMES, "options.image_column", place)
    if path is None:
        raise ProtegeError(
            f"{place}: give a .csv file whose first line names its columns, one of them 'uri': "
            f"'uri' is missing. {describe_columns(kinds)}; options.image_column names another one"
        )
    label = None
    if reading.labelled:
        others = {name: kind for name, kind in kinds.items() if name != path}
        label = choose_column(
            others, reading.columns.label, LABEL_NAMES, "options.label_column", place
        )
        if label is None:
            raise ProtegeError(
                f"{place}: give a .csv file whose first line names the columns uri and label; "
                f"'label' is missing. {describe_columns(kinds)}; options.label_column names another"
            )
    tags = next((name for name in kinds if name.strip().lower() in TAG_NAMES), None)
    return path, label, tags


def _without_floats(rows: list[Row], label: str | None) -> list[Row]:
    values = [str(row.values.get(label) or "").strip() for row in rows] if label else []
    if not any(values) or not all(FLOATS.fullmatch(value) for value in values if value):
        return rows
    return [
        Row(row.line, {**row.values, label or "": value.partition(".")[0]})
        for row, value in zip(rows, values)
    ]


def _entry(
    row: Row, columns: tuple[str, str | None, str | None], store: Store, place: str
) -> _Entry:
    path, label, tags = columns
    key = row.values.get(path)
    key = key.strip() if isinstance(key, str) else ""
    if not key:
        raise ProtegeError(f"{place}, line {row.line}: no file is named in column {path!r}")
    try:
        address = Address.parse(key.removeprefix("./"), store.uri)
    except ProtegeError as error:
        raise ProtegeError(
            f"{place}, line {row.line}: {key} cannot be opened; use paths, file:// or s3:// URIs"
        ) from error
    name = None if label is None else _label(row, label, place)
    found = tags_of(row.values.get(tags)) if tags else None
    uri = _normal(address)
    size, version = _size_and_version(uri)
    return _Entry(SourceFile(key, uri, size, version, name, found), row.line)


def _size_and_version(uri: str) -> tuple[int, str]:
    """What a disk says of a file; to ask S3 about each would cost a request an image."""
    address = Address(uri)
    if address.is_s3:
        return ANY_SIZE, UNKNOWN_VERSION
    store, name = open_object(address)
    try:
        found = store.sizes(name)[name] if store.exists(name) else None
    except OSError:  # whoever reads it says why
        found = None
    return (found.size, found.version) if found else (ANY_SIZE, UNKNOWN_VERSION)


def _normal(address: Address) -> str:
    """One text for one file: `a/./b` and `a/../b` mean something on a disk, and nothing on S3."""
    return address.uri if address.is_s3 else str(os.path.normpath(address.uri))


def _label(row: Row, column: str, place: str) -> str:
    value = row.values.get(column)
    try:
        label = label_text(value)
    except ValueError as error:
        raise ProtegeError(
            f"{place}, line {row.line}: {str(value)[:60]!r} in column {column!r} is no label "
            f"({error})"
        ) from None
    if label is None:
        raise ProtegeError(f"{place}, line {row.line}: no label in column {column!r}")
    return label
