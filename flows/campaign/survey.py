"""Survey: how much a source holds, before any work, by listing it and by the footers of tables.

In: the options of a recipe. Out: `Sources`, with a `SourceSize` for each. Members of tar files are
not counted, because that would read every file; whoever shows the size says so.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flows.campaign.find import sources_of
from flows.campaign.options import RecipeOptions
from infra.errors import ProtegeError, name_options
from tasks.estimate import show_duration
from tasks.shard import ShardOptions, sort_classes, table_size
from tasks.shard.sources import Listing

MAX_FOOTERS = 1_000  # each is one small read
LISTED = 5
MAX_LOOSE = 3_000_000  # a few minutes and 5 GB at each start
LOOSE_BYTES, LOOSE_SECONDS = 1_650, 63e-6  # of the process that lists and pins, for each file


@dataclass(frozen=True)
class SourceSize:
    """Images and bytes of a source; `classes` is None where they are not known from a listing.

    `uncounted` are containers whose members were not counted, `loose` images that are files, `lone`
    classes of a single image, as far as a listing tells.
    """

    images: int
    size_bytes: int
    classes: tuple[str, ...] | None
    uncounted: int = 0
    lone: tuple[str, ...] = ()
    loose: int = 0

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


class Sources:
    """The sources of a recipe, each of which is listed once: that takes long for many files."""

    def __init__(self, options: RecipeOptions) -> None:
        self.options = options
        self.listings: dict[str, Listing] = {}  # those that were made, by role
        self.counted: dict[str, SourceSize] = {}

    def sizes(self, *, whole: bool) -> dict[str, SourceSize]:
        """The sizes of the labelled sources; of all of them, where `whole`. Raises ProtegeError."""
        sources = sources_of(self.options).items()
        return {role: self._size(role, of) for role, of in sources if of.labelled or whole}

    def _size(self, role: str, source: ShardOptions) -> SourceSize:
        if role not in self.counted:
            try:
                self.listings[role] = source.list_files()
                self.counted[role] = survey(source, self.listings[role])
            except ProtegeError as error:
                name_options(error, f"{role}.{{}}".format)
                raise ProtegeError(f"{role}.source: {error}") from None
        return self.counted[role]


def survey(options: ShardOptions, listing: Listing) -> SourceSize:
    """Count what is in the files of a source. Raises ProtegeError for unsound classes."""
    files = listing.files
    loose = [file for file in files if not file.is_container]
    tables = [file for file in files if file.key.lower().endswith(".parquet")]
    counted = tables if len(tables) <= MAX_FOOTERS else []
    found = [table_size(file, options.reading) for file in counted]
    uncounted = len(files) - len(loose) - len(counted)
    share = (options.to_percent - options.from_percent) / 100
    counts = Counter(file.label for file in loose if file.label is not None)
    labels = set(counts).union(*(table.labels for table in found))
    lone = [label for label, count in counts.items() if count == 1 and len(loose) == len(files)]
    return SourceSize(
        images=len(loose) + round(sum(table.rows for table in found) * share),
        size_bytes=sum(max(0, file.size) for file in files),
        classes=tuple(sort_classes(labels)) if options.labelled and not uncounted else None,
        uncounted=uncounted,
        loose=len(loose),
        lone=tuple(sort_classes(lone)) if options.labelled else (),
    )


def doubts_of(sizes: Mapping[str, SourceSize]) -> Iterator[str]:
    """What is no error in the sources and seldom meant, by role."""
    for role, size in sizes.items():
        if size.loose > MAX_LOOSE:
            yield (
                f"{role}.source: {size.loose:,} loose images take about "
                f"{show_bytes(size.loose * LOOSE_BYTES)} of memory and "
                f"{show_duration(size.loose * LOOSE_SECONDS)} at every start; pack them into .tar "
                "files of some thousand images, which are listed as one each"
            )
        if size.lone:
            yield (
                f"{role}.source: of {len(size.lone):,} of its {len(size.classes or ()):,} classes "
                f"there is a single image ({', '.join(size.lone[:LISTED])}): label more of them, "
                "or take them out"
            )


def pile_size(sizes: Mapping[str, SourceSize], options: RecipeOptions) -> int | None:
    """The images of all unlabelled sources; None where some were not counted."""
    piles = [role for role, source in sources_of(options).items() if not source.labelled]
    counted = [sizes[role] for role in piles if role in sizes and not sizes[role].uncounted]
    return sum(size.images for size in counted) if counted and len(counted) == len(piles) else None
