"""Notes: the label and the tags that stand beside an image in a tar, in files of their own."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from infra.errors import ProtegeError
from tasks.shard.sources.labels import LABEL_NAMES, TAG_NAMES, folder_label, label_text, tags_of
from tasks.shard.sources.reading import Reading

NOTE_ENDINGS = frozenset({".cls", ".json", ".txt"})
VALUE_SHOWN = 60


class Notes:
    """The notes beside the images of a container; `read` gives the bytes of a file, or None."""

    def __init__(self, place: str, reading: Reading, read: Callable[[str], bytes | None]) -> None:
        self._place = place
        self._reading = reading
        self._read = read

    def of(self, name: str, bases: tuple[str, ...]) -> tuple[str | None, tuple[str, ...] | None]:
        """The label and the tags of an image; `bases` are the paths that it shares with notes."""
        fields = self._fields(bases)
        tags = next((fields[key] for key in TAG_NAMES if key in fields), None)
        if not self._reading.labelled:
            return None, tags_of(self._note(bases, ".txt") if tags is None else tags)
        for where, value in self._labels(name, bases, fields):
            try:
                label = label_text(value)
            except ValueError as error:
                raise ProtegeError(
                    f"{self._place}: {where} of {name}: {str(value)[:VALUE_SHOWN]!r} is no label "
                    f"({error})"
                ) from None
            if label is not None:
                return label, tags_of(tags)
        return self._reading.label, tags_of(tags)

    def _labels(
        self, name: str, bases: tuple[str, ...], fields: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any]]:
        """Where a label may stand, best first, with what stands there.

        A folder goes before a `.txt`, which is often a caption; unless the options name it.
        """
        given = self._reading.columns.label
        if given:
            yield f"field {given!r}", fields.get(given)
            yield f".{given}", self._note(bases, f".{given}")
        yield ".cls", self._note(bases, ".cls")
        for field in LABEL_NAMES:
            yield f"field {field!r}", fields.get(field)
        yield "folder", folder_label(name, self._reading.folder_level, given)
        yield ".txt", self._note(bases, ".txt")

    def _fields(self, bases: tuple[str, ...]) -> Mapping[str, Any]:
        note = self._note(bases, ".json")
        try:
            fields = json.loads(note or b"{}")
        except ValueError:
            return {}
        return fields if isinstance(fields, dict) else {}

    def _note(self, bases: tuple[str, ...], ending: str) -> bytes | None:
        return next((note for base in bases if (note := self._read(base + ending))), None)
