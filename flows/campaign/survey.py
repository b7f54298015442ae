"""Survey: how much a source holds, before any work, by listing it and by the footers of tables.

In: the options of a source. Out: a `SourceSize`. Members of tar files are not counted, because that
would read every file; whoever shows the size says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from flows.campaign.find import sources_of
from flows.campaign.options import RecipeOptions
from infra.store import split_uri
from tasks.shard import ShardOptions
from tasks.shard.sources import SourceFile, list_source

MAX_FOOTERS = 1_000  # each is one small read


@dataclass(frozen=True)
class SourceSize:
    """Images and bytes of a source; `classes` is None where they are not known from a listing.

    `uncounted` are containers whose members were not counted, `stray` the keys of labelled images
    that lie in no folder of a class.
    """

    images: int
    size_bytes: int
    classes: tuple[str, ...] | None
    uncounted: int = 0
    stray: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.images:,} images"] if self.images or not self.uncounted else []
        if self.uncounted:
            parts.append(f"{self.uncounted:,} files whose images are not counted")
        classes = f" of {len(self.classes):,} classes" if self.classes is not None else ""
        return f"{' and '.join(parts)}{classes}, {show_bytes(self.size_bytes)}"


def show_bytes(count: float) -> str:
    """Bytes in the unit that people read."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def survey(options: ShardOptions) -> SourceSize:
    """Look at a source. Raises ProtegeError when it cannot be listed."""
    files = list_source(options.source, labelled=options.labelled, within=options.slice)
    loose = [file for file in files if not file.is_container]
    tables = [file for file in files if file.key.lower().endswith(".parquet")]
    counted = tables if len(tables) <= MAX_FOOTERS else []
    rows = sum(_rows(file) for file in counted)
    uncounted = len(files) - len(loose) - len(counted)
    return SourceSize(
        images=len(loose) + round(rows * (options.to_percent - options.from_percent) / 100),
        size_bytes=sum(max(0, file.size) for file in files),
        classes=_classes(loose, counted) if options.labelled and not uncounted else None,
        uncounted=uncounted,
        stray=tuple(file.key for file in loose if options.labelled and file.label is None),
    )


def pile_size(sizes: Mapping[str, SourceSize], options: RecipeOptions) -> int | None:
    """The images of all unlabelled sources; None where some were not counted."""
    piles = [role for role, source in sources_of(options).items() if not source.labelled]
    counted = [sizes[role] for role in piles if role in sizes and not sizes[role].uncounted]
    return sum(size.images for size in counted) if counted and len(counted) == len(piles) else None


def _rows(file: SourceFile) -> int:
    store, name = split_uri(file.uri)
    with store.open(name) as source:
        return int(pq.ParquetFile(source).metadata.num_rows)


def _classes(loose: Sequence[SourceFile], tables: Sequence[SourceFile]) -> tuple[str, ...] | None:
    """The names of the classes; None where a column of numbers would have to be interpreted."""
    names = {file.label for file in loose if file.label is not None}
    for file in tables:
        store, name = split_uri(file.uri)
        with store.open(name) as source:
            parquet = pq.ParquetFile(source)
            if "label" not in parquet.schema_arrow.names:
                return None
            column = parquet.read(["label"])["label"]
        if not (pa.types.is_string(column.type) or pa.types.is_dictionary(column.type)):
            return None
        names.update(str(label) for label in column.unique().to_pylist() if label is not None)
    return tuple(sorted(names))
