"""The report names first what may be wrong: a weak teacher, suspect classes, blank images."""

import io

import numpy as np
import pytest
from PIL import Image

from infra.store import Store
from tasks.duplicates.matching import signature_of
from tasks.images import Limits, decode
from tasks.report import PAGE, Story, report
from tasks.report.blank import MAX_RANGE
from tests.builders.stories import Made, campaign


def page_of(root: Store, story: Story) -> str:
    return report(root, story).store.read(PAGE).decode()


def test_a_suspect_class_is_named(root: Store) -> None:
    page = page_of(root, campaign(root, Made(suspect=2)))
    assert 'class="badge mark">suspect' in page
    assert "may have filled with images of other things" in page


@pytest.mark.parametrize(("blank", "count"), [(0, "none is"), (3, "15 are")])
def test_chosen_images_of_one_colour_are_counted(root: Store, blank: int, count: str) -> None:
    page = page_of(root, campaign(root, Made(blank=blank)))
    assert f"Of 100 chosen images, {count} nearly of one colour." in page
    line = "15 of 100 chosen images are nearly of one colour</strong>: 3 of cat, 3 of dog"
    assert (line in page) == bool(blank)


def test_pictures_of_twelve_bits_in_sixteen_count_as_blank() -> None:
    """Their upper byte is at most 15, whatever they show."""
    ramp = np.linspace(0, 4_095, 64 * 64).reshape(64, 64).astype(np.uint16)
    sink = io.BytesIO()
    Image.fromarray(ramp).save(sink, "PNG")
    _, cells = signature_of(decode(sink.getvalue(), Limits()))
    assert np.ptp(np.frombuffer(cells, np.uint8)) <= MAX_RANGE
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    _, cells = signature_of(noise)
    assert np.ptp(np.frombuffer(cells, np.uint8)) > MAX_RANGE


def test_a_teacher_that_is_mostly_wrong_is_named_instead_of_classes(root: Store) -> None:
    page = page_of(root, campaign(root, Made(suspect=2, teacher_top1=0.24)))
    assert "The teacher is right on only 24.0\u202f%</strong> of 100 images of the test set" in page
    assert 'class="badge mark">suspect' not in page
