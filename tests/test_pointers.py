"""Pointers: numbered entries that are only ever created."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.errors import ProtegeError
from infra.pointers import Pointer
from infra.store import Store, open_store


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, root: Store) -> Store:
    if request.param == "disk":
        return root
    return open_store(f"{request.getfixturevalue('s3')}/pointers-{id(root)}")


def test_pointer_points_to_what_it_was_moved_to_last(place: Store) -> None:
    pointer = Pointer(place, "champions/main")
    assert pointer.last() is None
    first = pointer.move({"to": "a"}, after=None)
    second = pointer.move({"to": "b"}, after=first)
    assert (first.number, second.number) == (1, 2)
    assert [entry.content["to"] for entry in pointer.history()] == ["a", "b"]
    assert pointer.last() == second
    # What lies below it, or beside it, is not part of it.
    place.create("champions/main/decisions/x.json", b"{}")
    place.create("champions/mainly/00000001.json", b"{}")
    assert pointer.last() == second


def test_of_many_who_move_it_at_once_one_succeeds(place: Store) -> None:
    pointer = Pointer(place, "champions/main")
    first = pointer.move({"to": "a"}, after=None)

    def move(number: int) -> bool:
        try:
            Pointer(place, "champions/main").move({"to": number}, after=first)
        except ProtegeError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(move, range(8))) == 1
    with pytest.raises(ProtegeError, match="moved by somebody else"):
        pointer.move({"to": "late"}, after=first)
    assert len(pointer.history()) == 2
