"""Lengths and learning rates: the formulas of the papers."""

from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.billion_scale.plan import plan
from flows.billion_scale.presets import IMAGENET_CLASSES, IMAGENET_IMAGES, imagenet_yfcc
from models.schedule import Schedule, scaled_rate
from tasks.options import Length

Decay = Literal["cosine", "step"]


def test_paper_preset_gives_the_papers_steps_and_rates() -> None:
    options = imagenet_yfcc()
    lessons = options.topk.k * IMAGENET_CLASSES
    student = options.student.schedule(lessons)
    assert lessons == 16_000_000
    assert student.total_steps == 651_042  # 1 billion images in batches of 1,536
    assert student.peak_rate == pytest.approx(0.6)
    assert student.rate(0) == pytest.approx(0.1, abs=1e-3)
    assert student.rate(student.total_steps - 1) == pytest.approx(0.6 / 2**13)
    finish = options.student.continued(options.fine_tune).schedule(IMAGENET_IMAGES)
    assert finish.total_steps == 25_023  # 30 epochs
    assert finish.peak_rate == pytest.approx(0.0015)
    assert finish.rate(finish.total_steps - 1) == pytest.approx(0.0015 / 1000)
    assert any(
        "651,042 steps" in line for line in plan(options, IMAGENET_IMAGES, 1000, None).lines()
    )


def test_rate_is_halved_thirteen_times_at_equal_distances() -> None:
    schedule = Schedule(14_000, 0, 0.0, 0.6, "step", 13, 0.5)
    rates = [schedule.rate(step) for step in range(14_000)]
    changes = [step for step in range(1, 14_000) if rates[step] != rates[step - 1]]
    assert changes == [1000 * number for number in range(1, 14)]


@given(st.integers(1, 500), st.integers(0, 100), st.sampled_from(get_args(Decay)))
def test_rate_rises_to_its_peak_and_never_rises_again(
    total: int, warmup: int, decay: Decay
) -> None:
    schedule = Schedule(total + warmup, warmup, 0.0, 0.3, decay, 3, 0.1)
    rates = [schedule.rate(step) for step in range(total + warmup)]
    assert max(rates) == pytest.approx(0.3)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_rate_grows_with_the_batch() -> None:
    assert scaled_rate(0.1, 1536) == pytest.approx(0.6)
    assert scaled_rate(0.00025, 1536) == pytest.approx(0.0015)


@pytest.mark.parametrize(
    ("length", "steps"),
    [("100 steps", 100), ("3 epochs", 30), ("640 images", 10), ("0 epochs", 0), ("1 images", 1)],
)
def test_length_means_the_same_in_every_unit(length: str, steps: int) -> None:
    parsed = Length.model_validate(length)
    assert parsed.steps(images_per_epoch=640, batch_size=64) == steps


def test_length_without_a_unit_is_refused_with_an_example() -> None:
    with pytest.raises(ValueError, match="write for example '30 epochs'"):
        Length.model_validate("thirty")
