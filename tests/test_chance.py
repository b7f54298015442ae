"""A teacher that only guesses stops the run; one that knows something, or cannot be judged, not."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.store import Store
from tasks.evaluate import check_better_than_chance, predict
from tasks.evaluate.chance import binomial_tail, measure_knowledge
from tasks.shard import ShardOptions, shard
from tests.builders.models import colour_model


@given(st.integers(1, 60), st.floats(0.01, 0.99), st.data())
def test_tail_is_the_sum_of_binomial_terms(count: int, chance: float, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, count))
    exact = sum(
        math.comb(count, k) * chance**k * (1 - chance) ** (count - k)
        for k in range(correct, count + 1)
    )
    assert binomial_tail(correct, count, chance) == pytest.approx(exact, rel=1e-9)


def test_tail_of_very_many_images_is_finite() -> None:
    assert 0.4 < binomial_tail(50_000, 100_000, 0.5) < 0.6
    assert binomial_tail(60_000, 100_000, 0.5) < 1e-100


def test_teacher_that_tells_colours_apart_is_better_than_chance(
    root: Store, pictures: Path
) -> None:
    test = shard(root, ShardOptions(source=str(pictures / "test"), labelled=True))
    answers = predict(root, colour_model(root), test)
    found = measure_knowledge(answers)
    assert (found.count, found.correct, found.errors) == (15, 15, ())
    assert found.chance == pytest.approx(1 / 3)
    check_better_than_chance(answers, "teacher")


def test_teacher_that_takes_everything_for_red_stops_the_run_and_shows_its_errors(
    root: Store, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    test = shard(root, ShardOptions(source=str(pictures / "test"), labelled=True))
    answers = predict(root, colour_model(root, weight=0), test)
    with pytest.raises(ProtegeError) as caught:
        check_better_than_chance(answers, "teacher")
    assert "right on 5 of 15 labelled images" in str(caught.value)
    assert "always the most frequent class would be right on 5" in str(caught.value)
    assert "blue is taken for red: 5" in str(caught.value)
    assert "green is taken for red: 5" in str(caught.value)
    assert "set approval.teacher_at_chance=go_on" in str(caught.value)
    check_better_than_chance(answers, "teacher", stop=False)
    assert "What it says of the pile may be random" in caplog.text


def test_images_too_few_to_tell_do_not_stop_a_run(
    root: Store, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        source = next((pictures / "test" / name).iterdir())
        (tmp_path / name / "1.png").write_bytes(source.read_bytes())
    test = shard(root, ShardOptions(source=str(tmp_path), labelled=True))
    check_better_than_chance(predict(root, colour_model(root, weight=0), test), "teacher")
    assert "What it says of the pile may be random" in caplog.text
