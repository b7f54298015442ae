"""The fuzz run notices each fault that it is for, and makes the same case again."""

from pathlib import Path

import numpy as np
import pytest

from infra.errors import ProtegeError
from tests.fuzz import trial
from tests.fuzz.cases import Case, make_case

CASE = Case(0, "image", {"image": b""})


def test_a_case_is_made_from_its_seed_and_number() -> None:
    cases = [make_case(7, number) for number in range(40)]
    assert cases == [make_case(7, number) for number in range(40)]
    assert cases != [make_case(8, number) for number in range(40)]
    assert {case.kind for case in cases} == {"image", "source", "weights", "model"}


@pytest.mark.parametrize(
    ("error", "name"),
    [(ProtegeError("mend it"), "refused"), (ValueError("?"), "crashes"), (EOFError(), "crashes")],
)
def test_an_error_that_nobody_can_mend_is_a_crash(
    error: Exception, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(case: Case, folder: Path) -> trial.Verdict:
        raise error

    monkeypatch.setitem(trial.TRIALS, "image", fail)
    assert trial.try_case(CASE).name == name


def test_memory_and_pixels_are_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    def swell(case: Case, folder: Path) -> trial.Verdict:
        return trial.Verdict("kept", f"{np.ones(100 << 20, np.uint8).sum()}")

    monkeypatch.setitem(trial.TRIALS, "image", swell)
    assert trial.try_case(CASE).name == "over_memory"
    monkeypatch.undo()
    monkeypatch.setattr(trial, "pillow_pixels", lambda data: np.zeros((1, 1, 3), np.uint8))
    sound = make_case(7, next(n for n in range(99) if make_case(7, n).kind == "image"))
    monkeypatch.setattr(trial, "decode", lambda data, limits: np.ones((1, 1, 3), np.uint8))
    monkeypatch.setattr(trial, "check", lambda data, limits: None)
    assert trial.try_case(sound).name == "wrong_pixels"
