"""Reading: how a source is read, and what comes out of its containers."""

from dataclasses import dataclass

from infra.errors import ProtegeError
from tasks.shard.sources.columns import GUESSED, Columns
from tasks.shard.sources.places import Place


class BadContainer(ProtegeError):
    """A container that cannot be read: another one may be sound."""


@dataclass(frozen=True)
class Reading:
    """What is to be read of the images of a source beside their bytes."""

    labelled: bool = False
    columns: Columns = GUESSED
    class_level: int = 0
    """Level of the folder that is the class; 0 means the top one, after a check."""
    label: str | None = None
    """The class of a container, for the images in it that have none of their own."""

    in_place: bool = False
    """Find out where the images of containers lie."""

    @property
    def folder_level(self) -> int:
        """Level of the folder that is the class, 1 for the top one."""
        return self.class_level or 1


@dataclass(frozen=True)
class Member:
    """An image in a container; `place` is where its bytes lie in the file, where that is known."""

    name: str
    data: bytes
    place: Place | None = None
    label: str | None = None
    tags: tuple[str, ...] | None = None
    problem: str = ""
    """Why there are no bytes."""
