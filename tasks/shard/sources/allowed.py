"""Allowed: the places that sources may be in, where an administrator has confined them.

In: PROTEGE_SOURCES, and an address. Out: an error for an address elsewhere. Whoever may start a run
on a shared server could otherwise have any file of the worker read, and see its first bytes among
the rejects: a list may name any file, and so may a link.

    confinement = Confinement.of_settings()
    confinement.check("s3://bucket/pile")
"""

from dataclasses import dataclass

from infra.errors import ProtegeError
from infra.settings import Settings
from infra.store import Address


@dataclass(frozen=True)
class Confinement:
    """The allowed places, resolved; without any, everything is allowed."""

    places: tuple[str, ...] = ()

    @staticmethod
    def of_settings() -> "Confinement":
        """What PROTEGE_SOURCES says."""
        places = (place.strip() for place in Settings().sources.split(","))
        return Confinement(tuple(_resolve(place) for place in places if place))

    def check(self, uri: str) -> None:
        """Raise ProtegeError when it is in none of the places."""
        if not self.places:
            return
        resolved = _resolve(uri)
        if not any(f"{resolved}/".startswith(f"{place.rstrip('/')}/") for place in self.places):
            raise ProtegeError(
                f"{uri} may not be read: PROTEGE_SOURCES allows {', '.join(self.places)}"
            )


def _resolve(uri: str) -> str:
    """An address without links and '..', which could lead out of an allowed place."""
    return Address.parse(uri).folder().resolved().uri
