"""A source that is a list: a `.csv` with columns, or a `.txt` with a path in each line."""

import csv
import io
from collections.abc import Iterator

from infra.errors import ProtegeError
from infra.store import Store
from tasks.shard.sources.files import SourceFile


def read_list(store: Store, name: str, *, labelled: bool) -> Iterator[SourceFile]:
    """The files that a list names. Raises ProtegeError for a list that cannot be read."""
    for row in _list_rows(store, name, labelled=labelled):
        key = (row["uri"] or "").strip()
        place = key
        if "://" not in key:
            place = key if key.startswith("/") else f"{store.uri}/{key}"
        elif not key.startswith(("s3://", "file://")):
            raise ProtegeError(
                f"{store.uri}/{name}: {key} cannot be opened; use paths, file:// or s3:// URIs"
            )
        tags = tuple(row["tags"].split()) if row.get("tags") else None
        # The list names the files; asking the store about each would cost a request an image.
        yield SourceFile(key, place, -1, "listed", (row.get("label") or "").strip() or None, tags)


def _list_rows(store: Store, name: str, *, labelled: bool) -> list[dict[str, str]]:
    """The rows of a list, which has a column `uri`, and `label` where it must tell classes."""
    place = f"{store.uri}/{name}"
    try:
        text = store.read(name).decode("utf-8-sig")  # spreadsheets put a mark in front
        if name.lower().endswith(".txt"):
            rows = [{"uri": line} for line in text.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ProtegeError(f"{place} is not a list in UTF-8 text: {error}") from None
    needed = ("uri", "label") if labelled else ("uri",)
    for column in needed:
        if rows and column not in rows[0]:
            raise ProtegeError(
                f"{place}: give a .csv file whose first line names the columns "
                f"{' and '.join(needed)}; {column!r} is missing"
            )
    return rows
