"""Mapping: which classes a tag teaches.

In: a list with the columns `tag` and `class`, as a person wrote it, or nothing. Out: a
`TagMapping`. A tag may teach several classes, and several tags the same one. Tags are compared
without regard to capitals, a leading '#' and the way in which accents are encoded.

    mapping = read_mapping("tags.csv")
    mapping.classes_of(["#Seven", "ink"])       # {"7"}
"""

import logging
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.errors import ProtegeError
from tasks import contract
from tasks.shard import Row, label_text, look_alikes, read_list_rows, sort_classes

logger = logging.getLogger(__name__)

COLUMNS = ("tag", "class")


@dataclass(frozen=True)
class TagMapping:
    """The classes of each tag; without a table, each tag is a class of its own."""

    table: Mapping[str, tuple[str, ...]] | None = None

    def classes_of(self, tags: Iterable[str]) -> set[str]:
        """What an image with these canonical tags teaches."""
        if self.table is None:
            return set(tags)
        return {name for tag in tags for name in self.table.get(tag, ())}

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of the table, in their order; None without one."""
        if self.table is None:
            return None
        return tuple(sort_classes({name for names in self.table.values() for name in names}))

    @property
    def digest(self) -> str:
        """The digest of what the table says; empty without one."""
        return "" if self.table is None else contract.digest_of(sorted(self.table.items()))


def read_mapping(address: str) -> TagMapping:
    """Read a table; an empty address is none. Raises ProtegeError, with the line."""
    if not address:
        return TagMapping()
    rows = read_list_rows(address)
    _check_columns(rows, address)
    table: dict[str, set[str]] = {}
    for row in rows:
        values = {name.strip().lower(): value for name, value in row.values.items()}
        tag, name = (_text(values.get(column), column, row.line, address) for column in COLUMNS)
        table.setdefault(canonical_tag(tag), set()).add(name)
    if not table:
        raise ProtegeError(f"{address} maps no tag to a class: give it a line for each pair")
    for group in look_alikes({name for names in table.values() for name in names}):
        logger.warning(
            "%s: classes that look alike are different classes: %s",
            address,
            ", ".join(map(repr, group)),
        )
    # The order of the lines means nothing.
    return TagMapping({tag: tuple(sort_classes(names)) for tag, names in table.items()})


def _check_columns(rows: Sequence[Row], address: str) -> None:
    found = [name for row in rows[:1] for name in row.values]
    known = {name.strip().lower() for name in found}
    missing = [column for column in COLUMNS if column not in known]
    if rows and missing:
        raise ProtegeError(
            f"{address}: give a .csv or .jsonl file with the columns tag and class; there is no "
            f"{missing[0]!r}, but {', '.join(map(repr, found))}"
        )


def _text(value: Any, column: str, line: int, address: str) -> str:
    """A tag or the name of a class, as a label is read."""
    place = f"{address}, line {line}"
    try:
        text = label_text(value)
    except ValueError as error:
        raise ProtegeError(f"{place}: {str(value)[:60]!r} is no {column} ({error})") from None
    if not text or (column == "tag" and not canonical_tag(text)):
        raise ProtegeError(f"{place}: a tag and a class are needed")
    return text


def canonical_tag(tag: str) -> str:
    """The form in which tags are compared."""
    return unicodedata.normalize("NFKC", tag).casefold().strip().lstrip("#").strip()


def canonical_tags(tags: Iterable[str] | None) -> set[str]:
    """The different tags of an image, which may have none."""
    return {canonical for tag in tags or () if (canonical := canonical_tag(tag))}
