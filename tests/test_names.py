"""Names: what people call champions and campaigns stays one part of a path."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.retrain import champion
from infra.errors import ProtegeError
from infra.names import check_name
from infra.store import Store
from tasks import campaigns

BAD = ["", ".", "..", "../x", "a/b", "/x", "a\\b", "a b", "x\n", "x\x00", "ü", "-x", "a" * 101]
GOOD = ["main", "billion-scale-1f3a0b2c-000", "v1.2_b", "X", "a" * 100]


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name_is_refused_wherever_it_is_given(root: Store, name: str) -> None:
    refused = "is no name of a"
    with pytest.raises(ProtegeError, match=refused):
        check_name("champion", name)
    for ask in (champion.rollback, lambda root, name: champion.promote(root, name, "x")):
        with pytest.raises(ProtegeError, match=refused):
            ask(root, name)
    with pytest.raises(ProtegeError, match=refused):
        champion.pointer(root, name)
    for campaign in (champion.promote, champion.decided):
        with pytest.raises(ProtegeError, match=refused):
            campaign(root, "main", name)
    with pytest.raises(ProtegeError, match=refused):
        campaigns.find(root, name)
    assert root.sizes() == {}


@pytest.mark.parametrize("name", GOOD)
def test_names_are_taken_as_they_are(root: Store, name: str) -> None:
    assert check_name("champion", name) == name
    assert champion.pointer(root, name).last() is None
    assert campaigns.find(root, name) is None


@given(st.text(max_size=20))
def test_a_name_is_one_part_of_a_path(name: str) -> None:
    try:
        check_name("champion", name)
    except ProtegeError:
        return
    assert Path(name).name == name
    assert name not in {".", ".."}
