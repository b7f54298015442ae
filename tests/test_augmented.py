"""Augmented images: what is shown is what the training computes with, and the page stands alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from flows.cli import app
from infra.errors import ProtegeError
from infra.store import Store
from tasks.augmented_page import changes
from tasks.contract import Output
from tasks.gather import gather
from tasks.images import Inputs, Pixels, encode_png
from tasks.options import Length
from tasks.shard import ShardOptions, shard
from tasks.train import Augment, TrainOptions, augmented_pictures, train
from tasks.train.trainer import Trainer
from tests.builders.pictures import write_folder
from tests.builders.trainings import ONE, job
from tests.faults.driver import ONE as ONE_PROCESS

EVERYTHING = Augment(
    crop_min_area=0.3,
    rotate_degrees=10,
    elastic=0.02,
    erase=0.2,
    colour=1,
    grey=0.2,
    blur=0.5,
    randaugment_ops=2,
    randaugment_magnitude=15,
    mixup=0.4,
    cutmix=1,
)
OPTIONS = TrainOptions(
    model="mean_colour",
    length=Length(amount=3, unit="steps"),
    batch_size=8,
    virtual_ranks=2,
    augment=EVERYTHING,
    inputs=Inputs(size=24, resize=24, pixels="unit"),
    seed=3,
)


@pytest.fixture
def one_picture(root: Store, tmp_path: Path) -> Output:
    """Lessons of the same image in two classes, so that it stands at every place of every step."""
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    for name in ("blue", "red"):
        (tmp_path / "source" / name).mkdir(parents=True)
        (tmp_path / "source" / name / "a.png").write_bytes(encode_png(pixels_HWC))
    source = ShardOptions(source=str(tmp_path / "source"), labelled=True)
    return gather(root, shard(root, source))


@pytest.fixture
def lessons(root: Store, tmp_path: Path) -> Output:
    rng = np.random.default_rng(0)
    write_folder(tmp_path / "source", rng, per_class=4, labelled=True)
    source = ShardOptions(source=str(tmp_path / "source"), labelled=True)
    return gather(root, shard(root, source))


def inputs_of_training(lessons: Output, folder: Path) -> list[Tensor]:
    """What the network of a training takes in: of each step both virtual ranks."""
    trainer = Trainer(job(lessons, folder, OPTIONS), ONE)
    seen: list[Tensor] = []

    def record(_: torch.nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0].detach().clone())

    trainer.learner.network.register_forward_pre_hook(record)
    trainer.run()
    return seen


def test_what_is_shown_is_what_the_training_sees(one_picture: Output, tmp_path: Path) -> None:
    seen = inputs_of_training(one_picture, tmp_path / "training")
    pictures = augmented_pictures(one_picture, OPTIONS, num_images=4, num_versions=3)
    assert len(pictures) == 4
    for row, picture in enumerate(pictures):
        for step, version_HWC in enumerate(picture.versions):
            image_CHW = seen[2 * step][row]
            expected_HWC = (image_CHW * 255).round().byte().permute(1, 2, 0).numpy()
            assert np.array_equal(version_HWC, expected_HWC), (row, step)


def test_looking_leaves_the_random_numbers_of_the_process(one_picture: Output) -> None:
    torch.manual_seed(1)
    augmented_pictures(one_picture, OPTIONS, num_images=1, num_versions=1)
    after = torch.rand(())
    torch.manual_seed(1)
    assert after == torch.rand(())


def test_without_changes_versions_are_the_original(lessons: Output) -> None:
    still = OPTIONS.model_copy(update={"augment": Augment(crop_min_area=1, flip=False)})
    for picture in augmented_pictures(lessons, still, num_images=3, num_versions=2):
        for version_HWC in picture.versions:
            assert np.array_equal(version_HWC, picture.original)
    assert changes(still.augment) == "no change"


def test_colours_of_the_original_are_those_of_its_class(lessons: Output) -> None:
    pictures = augmented_pictures(lessons, OPTIONS, num_images=4, num_versions=1)
    for picture in pictures:
        (name,) = picture.classes
        assert ("red", "green", "blue")[strongest(picture.original)] == name


def strongest(pixels_HWC: Pixels) -> int:
    return int(pixels_HWC.mean(axis=(0, 1)).argmax())


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["augmented", *arguments])


def test_command_writes_a_page_of_lessons_with_the_options_that_are_set(
    lessons: Output, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    sets = ("--set", "augment.colour=1", "--set", "inputs.size=16", "--set", "inputs.resize=16")
    done = command(lessons.uri, *sets, "--file", str(page), "--images", "3", "--versions", "2")
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(page)
    text = page.read_text()
    assert text.count("<img ") == 3 * (1 + 2)
    assert "augment.colour=1.0" in text
    assert all(address.startswith("data:image/") for address in re.findall('src="([^"]*)', text))
    assert "http" not in text


def test_command_takes_the_options_of_a_training(
    root: Store, lessons: Output, tmp_path: Path
) -> None:
    trained = train(root, lessons, OPTIONS, processes=ONE_PROCESS)
    page = tmp_path / "page.html"
    done = command(trained.uri, "--file", str(page), "--images", "2", "--versions", "1")
    assert done.exit_code == 0, done.output
    assert changes(EVERYTHING) in page.read_text()
    done = command(trained.uri, "--file", str(page), "--set", "augment.blur=0")
    assert done.exit_code == 0, done.output
    assert "augment.blur" not in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "augment.colur=1"], "did you mean 'colour'"),
        (["--file", "no-such-folder/page.html"], "cannot be written"),
    ],
)
def test_command_says_what_is_wrong(lessons: Output, arguments: list[str], message: str) -> None:
    small = ("--set", "inputs.size=8", "--versions", "1")
    done = command(lessons.uri, *small, *arguments)
    assert isinstance(done.exception, ProtegeError)
    assert message in str(done.exception)


def test_command_refuses_other_outputs(root: Store, lessons: Output) -> None:
    links: Mapping[str, Any] = lessons.body["inputs"]
    (images,) = (f"{root.uri}/{link['manifest']}" for link in links.values())
    done = command(images)
    assert isinstance(done.exception, ProtegeError)
    assert "wanted is train or gather" in str(done.exception)
