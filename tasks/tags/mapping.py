"""Mapping: which classes a tag teaches.

In: a list with the columns `tag` and `class`, as a person wrote it, or nothing. Out: a
`TagMapping`. A tag may teach several classes, and several tags the same one. Tags are compared
without regard to capitals, a leading '#' and the way in which accents are encoded.

    mapping = read_mapping("tags.csv")
    mapping.classes_of(["#Seven", "ink"])       # {"7"}
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.errors import ProtegeError
from tasks import contract
from tasks.shard import read_list_rows

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
    def digest(self) -> str:
        """The digest of what the table says; empty without one."""
        return "" if self.table is None else contract.digest_of(sorted(self.table.items()))


def read_mapping(address: str) -> TagMapping:
    """Read a table; an empty address is none. Raises ProtegeError, with the line."""
    if not address:
        return TagMapping()
    table: dict[str, tuple[str, ...]] = {}
    for row in read_list_rows(address):
        names = {name.strip().lower(): name for name in row.values}
        if missing := [column for column in COLUMNS if column not in names]:
            raise ProtegeError(
                f"{address}: its first line must name the columns tag and class; there is no "
                f"{missing[0]!r}, but {', '.join(map(repr, row.values))}"
            )
        tag, name = (str(row.values[names[column]] or "").strip() for column in COLUMNS)
        tag = canonical_tag(tag)
        if not tag or not name:
            raise ProtegeError(f"{address}, line {row.line}: a tag and a class are needed")
        # As class names of labelled images are.
        name = unicodedata.normalize("NFC", name)
        if name not in table.get(tag, ()):
            table[tag] = (*table.get(tag, ()), name)
    if not table:
        raise ProtegeError(f"{address} maps no tag to a class: give it a line for each pair")
    return TagMapping(table)


def canonical_tag(tag: str) -> str:
    """The form in which tags are compared."""
    return unicodedata.normalize("NFKC", tag).casefold().strip().lstrip("#").strip()


def canonical_tags(tags: Iterable[str] | None) -> set[str]:
    """The different tags of an image, which may have none."""
    return {canonical for tag in tags or () if (canonical := canonical_tag(tag))}
