"""Pointers: names in the store that point to one thing at a time, with their whole history.

In: a root, a name such as `champions/main`, and an entry as plain JSON values. Out: numbered
files that are only ever created, `<name>/00000003.json`; the pointer points to the highest number.
To point elsewhere is to create the next number, so two writers never overwrite one another.

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
    """What a pointer pointed to, from this number to the next."""

    number: int
    content: Mapping[str, Any]


class Pointer:
    """A name in a store, and all that it ever pointed to."""

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
        """What it points to now; None when it never pointed to anything."""
        history = self.history()
        return history[-1] if history else None

    def move(self, content: Mapping[str, Any], *, after: PointerEntry | None) -> PointerEntry:
        """Point elsewhere. Raises ProtegeError when it has moved since `after` was read."""
        number = after.number + 1 if after else 1
        body = json.dumps(content, indent=1, ensure_ascii=False).encode()
        if not self._root.create(f"{self._name}/{number:08d}.json", body):
            raise ProtegeError(
                f"{self._name} has just been moved by somebody else: read it and try again"
            )
        return PointerEntry(number, content)
