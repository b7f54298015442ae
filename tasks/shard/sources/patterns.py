"""Patterns: which images of a source are wanted, by their keys."""

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Patterns:
    """Shell patterns of keys, in which `*` stands for slashes too; without `include`, every key."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def wants(self, key: str, container: str = "") -> bool:
        """Whether an image is wanted: by its own key, or by that of the container it lies in."""
        names = [name for name in (key, container) if name]
        included = not self.include or _match(names, self.include)
        return included and not _match(names, self.exclude)

    def opens(self, container: str) -> bool:
        """Whether a container may hold images that are wanted."""
        return not _match([container], self.exclude)


def _match(names: list[str], patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


EVERY_KEY = Patterns()
