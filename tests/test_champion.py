"""Champion: when a student is promoted, what is said of it, and the way back."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.campaign.find import find_campaign, sections_of, sources_of
from flows.recipes import BILLION_SCALE
from flows.retrain import champion
from flows.retrain.champion import Comparison, decide
from flows.retrain.flow import PromotionOptions, options_again
from infra.errors import ProtegeError
from infra.pointers import PointerEntry
from infra.store import Store
from tasks.campaigns import begin, save
from tasks.contract import Output
from tests.builders.campaign import tiny

STUDENT = Output("train", "ab12", "/root/train/ab12", "manifest.json", "cd34", 5, 5, 0, 1.0)
HOLDER = PointerEntry(3, {"campaign": "old", "student": {}, "promotion": {}})


def finished(root: Store, key: str) -> str:
    """The name of a finished campaign with a student."""
    campaign = begin(root, "billion-scale", {}, {}, key)
    outputs = {"student": STUDENT.__dict__}
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
        champion.record(root, "main", decision, last, STUDENT, replace(STUDENT, fingerprint="f"))
        assert champion.decided(root, "main", name) == decision
    history = champion.pointer(root, "main").history()
    assert [one.content["campaign"] for one in history] == ["a", "c"]
    assert history[-1].content["student"]["uri"] == STUDENT.uri
    assert champion.decided(root, "main", "z") is None
    assert champion.pointer(root, "other").last() is None


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


@pytest.mark.parametrize(("to_percent", "trained_up_to"), [(80, 80), (100, 90)])
def test_retraining_waits_for_nobody(
    root: Store, pictures: Path, to_percent: int, trained_up_to: int
) -> None:
    options = tiny(pictures, labelled={"to_percent": to_percent}, approval={"before": "score"})
    campaign = find_campaign(root, BILLION_SCALE.name, options, sources_of(options))
    again = options_again(root, BILLION_SCALE, campaign, "train", PromotionOptions())
    sections = sections_of(again)
    assert sections["approval"].before == "nothing"
    assert sections["labelled"].to_percent == trained_up_to
