"""Pointers: names in the store, each with the entry that it points to and all earlier entries.

In: a root, a name such as `champions/main`, and an entry as plain JSON values. Out: numbered
files, `<name>/00000003.json`; the pointer points to the highest number. Moving the pointer creates
the next number, so two writers never overwrite each other.

    pointer = Pointer(root, "champions/main")
    pointer.move(entry, after=pointer.last())
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import ProtegeError
from infra.store import Store


@dataclass(frozen=True)
class PointerEntry:
    """An entry that a pointer pointed to, and its number."""

    number: int
    content: Mapping[str, Any]


class Pointer:
    """A name in a store, and the history of its entries."""

    def __init__(self, root: Store, name: str) -> None:
        self._root, self._name = root, name

    def history(self) -> list[PointerEntry]:
        """Every entry, oldest first."""
        return [
            PointerEntry(int(path.rsplit("/", 1)[1].removesuffix(".json")), json.loads(data))
            for path in self._root.sizes(self._name)
            if path.count("/") == self._name.count("/") + 1 and path.endswith(".json")
            for data in [self._root.read(path)]
        ]

    def last(self) -> PointerEntry | None:
        """The present entry; None when there is none yet."""
        history = self.history()
        return history[-1] if history else None

    def move(self, content: Mapping[str, Any], *, after: PointerEntry | None) -> PointerEntry:
        """Point to a new entry. Raises ProtegeError when it was moved since `after` was read."""
        number = after.number + 1 if after else 1
        body = json.dumps(content, indent=1, ensure_ascii=False).encode()
        if not self._root.create(f"{self._name}/{number:08d}.json", body):
            raise ProtegeError(
                f"{self._name} has just been moved by somebody else: read it and try again"
            )
        return PointerEntry(number, content)
