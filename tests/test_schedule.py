"""Lengths and learning rates: the formulas and the published numbers of the papers."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flows.billion_scale.plan import plan
from flows.billion_scale.presets import IMAGENET_CLASSES, IMAGENET_IMAGES, imagenet_yfcc
from models.schedule import Schedule, scaled_rate
from tasks.options import Length
from tasks.train.estimate import estimate_training
from tasks.train.options import LearningRate, TrainOptions

Falling = Literal["cosine", "step"]


def schedule(**changes: Any) -> Schedule:
    """A schedule of 1,000 images without a warm-up, but for the changes."""
    values: dict[str, Any] = {
        "total_images": 1000,
        "warmup_images": 0,
        "warmup_start_rate": 0.0,
        "peak_rate": 0.3,
        "kind": "cosine",
        "num_steps_down": 3,
        "gamma": 0.1,
        "gamma_images": 100,
    }
    return Schedule(**{**values, **changes})


def epochs(amount: float) -> Length:
    return Length(amount=amount, unit="epochs")


def test_paper_preset_gives_the_papers_steps_and_rates() -> None:
    """Yalniz et al. 2019: 1 billion images in batches of 1,536, and 30 epochs of fine-tuning."""
    options = imagenet_yfcc()
    lessons = options.topk.k * IMAGENET_CLASSES
    rates = options.student.schedule(lessons)
    steps, batch_size = options.student.total_steps(lessons), options.student.batch_size
    assert lessons == 16_000_000
    assert (steps, batch_size) == (651_042, 1536)
    assert rates.peak_rate == pytest.approx(0.6)
    assert rates.step_rate(0, batch_size) == pytest.approx(0.1, abs=1e-3)
    assert rates.step_rate(steps - 1, batch_size) == pytest.approx(0.6 / 2**13)
    finish = options.student.continued(options.fine_tune)
    rates, steps = finish.schedule(IMAGENET_IMAGES), finish.total_steps(IMAGENET_IMAGES)
    assert steps == 25_023
    seen = {rates.step_rate(step, 1536) for step in range(steps)}
    assert sorted(seen) == pytest.approx([1.5e-6, 1.5e-5, 1.5e-4, 1.5e-3])
    assert any(
        "651,042 steps" in line for line in plan(options, IMAGENET_IMAGES, 1000, None).lines()
    )


# SimCLRv2's code rounds steps up and Noisy Student's down; ours takes the nearest.
@pytest.mark.parametrize(
    ("images", "amount", "batch_size", "published"),
    [
        (IMAGENET_IMAGES, 800, 4096, 250_228),
        (12_811, 60, 1024, 751),
        (128_116, 30, 1024, 3_754),
        (IMAGENET_IMAGES, 30, 1024, 37_535),
        (IMAGENET_IMAGES, 90, 4096, 28_151),
        (IMAGENET_IMAGES, 350, 4096, 109_474),
    ],
)
def test_published_numbers_of_steps(
    images: int, amount: float, batch_size: int, published: int
) -> None:
    options = TrainOptions(length=epochs(amount), batch_size=batch_size)
    assert abs(options.total_steps(images) - published) <= 1
    exact = options.model_copy(update={"length": Length(amount=published, unit="steps")})
    assert exact.total_steps(images) == published


def test_simclr_v2_warms_up_to_the_square_root_of_its_batch() -> None:
    rate = LearningRate(base=0.1, scaling="sqrt", warmup=epochs(40))
    options = TrainOptions(length=epochs(800), batch_size=4096, learning_rate=rate)
    rates = options.schedule(IMAGENET_IMAGES)
    assert rates.peak_rate == pytest.approx(6.4)
    assert rates.rate(40 * IMAGENET_IMAGES) == pytest.approx(6.4)
    assert rates.rate(420 * IMAGENET_IMAGES) == pytest.approx(3.2), "half of the cosine"
    assert rates.rate(800 * IMAGENET_IMAGES) == pytest.approx(0, abs=1e-9)
    assert scaled_rate(0.005, 1024, "sqrt") == pytest.approx(0.16)
    assert scaled_rate(0.002, 1024, "sqrt") == pytest.approx(0.064)


def test_noisy_student_decays_exponentially_from_the_first_image_on() -> None:
    rate = LearningRate(
        base=0.016, warmup=epochs(5), schedule="exponential", gamma=0.97, gamma_every=epochs(2.4)
    )
    options = TrainOptions(length=epochs(350), batch_size=2048, learning_rate=rate)
    rates = options.schedule(IMAGENET_IMAGES)
    assert rates.peak_rate == pytest.approx(0.128)
    assert rates.rate(2.5 * IMAGENET_IMAGES) == pytest.approx(0.064), "half of the warm-up"
    for passed in (5.0, 7.1, 7.3, 100.0, 349.9):
        expected = 0.128 * 0.97 ** (passed // 2.4)
        assert rates.rate(passed * IMAGENET_IMAGES) == pytest.approx(expected)
    text = estimate_training("student", options, 1000).works[0].text
    assert text.endswith("to 0.128, then times 0.97 every 2.4 epochs")


def test_rate_is_halved_thirteen_times_at_equal_distances() -> None:
    halved = schedule(total_images=14_000, kind="step", num_steps_down=13, gamma=0.5)
    rates = [halved.step_rate(step, 1) for step in range(14_000)]
    changes = [step for step in range(1, 14_000) if rates[step] != rates[step - 1]]
    assert changes == [1000 * number for number in range(1, 14)]


@given(
    st.integers(1, 500),
    st.integers(0, 100),
    st.integers(1, 64),
    st.sampled_from(["cosine", "step"]),
)
def test_rate_rises_to_its_peak_and_never_rises_again(
    steps: int, warmup: int, batch_size: int, kind: Falling
) -> None:
    total_images, warmup_images = (steps + warmup) * batch_size, warmup * batch_size
    changes = {"total_images": total_images, "warmup_images": warmup_images, "kind": kind}
    rising = schedule(**changes)
    rates = [rising.step_rate(step, batch_size) for step in range(steps + warmup)]
    assert max(rates) == pytest.approx(0.3)
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert rates[0] > 0


@given(
    st.integers(1, 300),
    st.integers(0, 5_000),
    st.integers(1, 64),
    st.sampled_from(["cosine", "step", "exponential"]),
)
def test_rate_after_the_same_images_is_the_same_for_every_batch(
    factor: int, warmup_images: int, batch_size: int, kind: str
) -> None:
    rates = schedule(total_images=20_000, warmup_images=warmup_images, kind=kind)
    first = factor * batch_size
    if first >= warmup_images:
        assert rates.step_rate(factor, batch_size) == rates.step_rate(first, 1)
        assert rates.step_rate(factor, batch_size) == rates.rate(first)


def test_length_and_warmup_are_no_whole_number_of_steps() -> None:
    """Neither is rounded: a curve of 100 images is one of 100 images, in batches of 30 too."""
    options = TrainOptions(
        batch_size=30,
        length=Length(amount=100, unit="images"),
        learning_rate=LearningRate(base=256 / 30, warmup=Length(amount=40, unit="images")),
    )
    rates = options.schedule(1000)
    assert options.total_steps(1000) == 3
    steps = [rates.step_rate(step, 30) for step in range(3)]
    assert steps == pytest.approx([0.75, 1.0, 0.75]), "60 images are a third of the cosine"


def test_rate_grows_with_the_batch() -> None:
    assert scaled_rate(0.1, 1536) == pytest.approx(0.6)
    assert scaled_rate(0.00025, 1536) == pytest.approx(0.0015)
    assert scaled_rate(0.016, 2048) == pytest.approx(0.128)


def test_decreases_without_a_distance_are_refused() -> None:
    with pytest.raises(ValidationError, match="gamma_every must be longer than 0"):
        LearningRate(gamma_every=epochs(0))


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
