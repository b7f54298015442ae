"""Places: whether the sources of a campaign and its root lie apart.

In: the sources by role, and the root. Out: nothing, or a ProtegeError that names two places of
which one contains the other. They are compared by where they really lie, however they were typed.

    check_places(root, {"labelled": labelled, "test": test})
"""

import itertools
from collections.abc import Mapping

from infra.errors import ProtegeError
from infra.store import Address, Store
from tasks.shard import ShardOptions
from tasks.shard.sources import is_list_name

# Below the root, a source may lie beside these folders, but not in one of them.
OUTPUTS = frozenset(
    {"agreement", "campaigns", "champions", "evaluate", "gather", "leakage", "leases"}
    | {"predictions", "report", "score", "shard", "signature", "tags", "topk", "train"}
)


Steps = tuple[str, ...]  # of a resolved address, from its front


def check_places(root: Store, sources: Mapping[str, ShardOptions]) -> None:
    """Raise ProtegeError where an image would be in two sources, or an output in a source."""
    given = {role: source for role, source in sources.items() if source.source}
    places = {role: _resolve(source.source) for role, source in given.items()}
    for role, other in itertools.combinations(given, 2):
        first, second = given[role], given[other]
        if _overlap(places[role], places[other]) and not _apart(first, second):
            raise ProtegeError(
                f"{role}.source and {other}.source must be different places, and {first.source} "
                f"and {second.source} have images in common: give folders of which none contains "
                "another"
            )
    own = _resolve(root.uri)
    for role, place in places.items():
        source = given[role].source
        if place == own or (_contains(place, own) and not is_list_name(place[-1])):
            raise ProtegeError(
                f"the root {root.uri} lies in {role}.source ({source}), so outputs would be taken "
                "for images: give another --root (or PROTEGE_ROOT), or the folder of the images"
            )
        if _contains(own, place) and place[len(own)] in OUTPUTS:
            raise ProtegeError(
                f"{role}.source ({source}) lies among the outputs in the root {root.uri}: give "
                "the images that they were made of"
            )


def _resolve(source: str) -> Steps:
    """Where it really lies."""
    return tuple(Address.parse(source).folder().resolved().uri.rstrip("/").split("/"))


def _contains(place: Steps, other: Steps) -> bool:
    return len(place) < len(other) and other[: len(place)] == place


def _overlap(place: Steps, other: Steps) -> bool:
    if place == other:
        return True
    # A list names images of its own; that it lies beside others means nothing.
    if is_list_name(place[-1]) or is_list_name(other[-1]):
        return False
    return _contains(place, other) or _contains(other, place)


def _apart(first: ShardOptions, second: ShardOptions) -> bool:
    """Whether they are slices of one source that have no image in common."""
    if _resolve(first.source) != _resolve(second.source):
        return False
    return first.slice.end <= second.slice.start or second.slice.end <= first.slice.start
