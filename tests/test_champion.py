"""Champion: when a student is promoted, what is said of it, and the way back."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.retrain import champion
from flows.retrain.champion import Comparison, decide
from infra.errors import ProtegeError
from infra.pointers import PointerEntry
from infra.store import Store
from tasks.campaigns import begin, save
from tasks.contract import Output

STUDENT = Output("train", "ab12", "/root/train/ab12", "manifest.json", "cd34", 5, 5, 0, 1.0)
HOLDER = PointerEntry(3, {"campaign": "old", "student": {}, "decision": {}})


def finished(root: Store, key: str) -> str:
    """The name of a finished campaign with a student."""
    campaign = begin(root, "billion-scale", {}, {}, key)
    outputs = {"student": STUDENT}
    save(root, replace(campaign, outputs=outputs, finished_at="2026-01-01T00:00:00Z"))
    return campaign.id


def test_first_student_is_the_champion() -> None:
    decision = decide("new", None, Comparison(), 0.1, 3)
    assert decision.promoted
    assert "first champion" in decision.text


@given(
    gain=st.floats(-1, 1),
    error=st.floats(0, 0.5),
    margin=st.floats(0, 0.5),
    errors=st.floats(0, 5),
)
def test_promoted_if_and_only_if_the_gain_is_sure(
    gain: float, error: float, margin: float, errors: float
) -> None:
    decision = decide("new", HOLDER, Comparison(500, gain, error), margin, errors)
    assert decision.promoted == (gain - errors * error > margin)
    assert ("beats old" in decision.text) == decision.promoted


def test_refusal_says_by_how_much_it_failed() -> None:
    decision = decide("new", HOLDER, Comparison(500, 0.01, 0.004), 0.008, 1)
    assert not decision.promoted
    assert "gains +1.00 points (standard error 0.40) over old on 500 images" in decision.text
    assert "more than +1.20 are needed, so it fails by 0.20" in decision.text


def test_what_cannot_be_compared_is_not_promoted_and_the_remedy_is_told() -> None:
    decision = decide("new", HOLDER, Comparison(why_not="it knows other classes"), 0, 0)
    assert not decision.promoted
    assert "it knows other classes" in decision.text
    assert "protege champion --promote new" in decision.text


def test_decision_is_recorded_and_moves_the_pointer_only_when_promoted(root: Store) -> None:
    for name, promoted in (("a", True), ("b", False), ("c", True)):
        last = champion.pointer(root, "main").last()
        decision = champion.Decision(name, promoted, f"{name} because", Comparison(9, 0.1, 0.01))
        champion.record(root, "main", decision, last, STUDENT)
        assert champion.decided(root, "main", name)
    history = champion.pointer(root, "main").history()
    assert [one.content["campaign"] for one in history] == ["a", "c"]
    assert history[-1].content["decision"]["comparison"]["gain"] == 0.1
    assert champion.student_of(root, history[-1]).uri == f"{root.uri}/train/ab12"
    assert not champion.decided(root, "main", "z")
    assert champion.pointer(root, "other").last() is None


@pytest.mark.parametrize("promoted", [True, False])
def test_decision_is_one_write_so_that_nobody_finds_half_of_it(root: Store, promoted: bool) -> None:
    decision = champion.Decision("a", promoted, "because", Comparison(9, 0.1, 0.01))
    champion.record(root, "main", decision, None, STUDENT)
    assert len(root.sizes("champions")) == 1


def test_nothing_is_decided_about_who_is_the_champion_by_hand(root: Store) -> None:
    by_hand, other = finished(root, "a"), finished(root, "b")
    champion.promote(root, "main", by_hand)
    assert champion.decided(root, "main", by_hand)
    champion.promote(root, "main", other)
    assert not champion.decided(root, "main", by_hand), "it may win its place back"


def test_rollback_goes_back_one_champion_at_a_time(root: Store) -> None:
    a, b, c = (finished(root, key) for key in "abc")
    for name in (a, b, c):
        champion.promote(root, "main", name)
    assert champion.rollback(root, "main").content["campaign"] == b
    assert champion.rollback(root, "main").content["campaign"] == a
    with pytest.raises(ProtegeError, match="no champion before this one"):
        champion.rollback(root, "main")
    champion.promote(root, "main", c)
    assert champion.rollback(root, "main").content["campaign"] == a
    assert len(champion.pointer(root, "main").history()) == 7


def test_promotion_by_hand_wants_a_finished_campaign(root: Store) -> None:
    unfinished = begin(root, "billion-scale", {}, {}, "x").id
    with pytest.raises(ProtegeError, match="is not finished"):
        champion.promote(root, "main", unfinished)
    with pytest.raises(ProtegeError, match="is not in this root"):
        champion.promote(root, "main", "nobody")
