"""Augmented: images beside what a training makes of them, for people to look at.

In: lessons and the options of a training on them. Out: the first images, each as the network would
see it without random changes, and as it would stand in its first steps.

    for picture in augmented_pictures(lessons, options, num_images=8, num_versions=6):
        show(picture.original, *picture.versions)

An image is shown as it would be changed if it stood at its place in virtual rank 0 of steps 0, 1
and so on: by the functions of the training, with its seeds, and with as many neighbours. In the
training, other images stand there; it shuffles.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from infra.errors import ProtegeError
from tasks.contract import Output, part_names, read_pieces
from tasks.images import Limits, Pixels, Unusable, decode
from tasks.tables import LESSONS
from tasks.train.data.views import View
from tasks.train.options import TrainOptions

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AugmentedPicture:
    """An image of a training set and its versions in successive steps, (S, S, 3) each."""

    classes: tuple[str, ...]
    original: Pixels
    versions: tuple[Pixels, ...]


def augmented_pictures(
    lessons: Output, options: TrainOptions, *, num_images: int, num_versions: int
) -> list[AugmentedPicture]:
    """The first images that can be decoded. Raises ProtegeError when there is none."""
    images = _first_images(lessons, options.batch_size // options.num_virtual_ranks)
    steps = [_version(images, options, step, num_images) for step in range(num_versions)]
    return [
        AugmentedPicture(classes, options.inputs.square(decode(data, Limits())), tuple(versions))
        for (data, classes), *versions in zip(images[:num_images], *steps, strict=True)
    ]


def _first_images(lessons: Output, count: int) -> list[tuple[bytes, tuple[str, ...]]]:
    """Images that can be decoded, and their classes; too few are repeated."""
    found: list[tuple[bytes, tuple[str, ...]]] = []
    for image, labels in _rows(lessons):
        try:
            decode(image, Limits())
        except Unusable:
            continue
        found.append((image, tuple(lessons.classes[label] for label in labels)))
        if len(found) == count:
            return found
    if not found:
        raise ProtegeError(f"{lessons.uri} has no images to show")
    return [found[row % len(found)] for row in range(count)]


def _rows(lessons: Output) -> Iterator[tuple[bytes, Sequence[int]]]:
    for name in (name for name in part_names(lessons) if name.startswith("part-")):
        for piece in read_pieces(lessons.store, name, LESSONS, ["image", "labels"]):
            for row in piece.to_pylist():
                yield row["image"], row["labels"]


def _version(
    images: Sequence[tuple[bytes, tuple[str, ...]]],
    options: TrainOptions,
    step: int,
    count: int,
) -> list[Pixels]:
    """The first images as virtual rank 0 would see them in this step."""
    # Imported here: whoever starts a training needs no torch.
    import torch

    from models.augment import augment
    from models.pixels import to_unit
    from tasks.train.augmentation import augmentation_of, mix_batch, step_seed

    changes, view = options.augment, View.of(options)
    first = step * options.batch_size
    crops = [view.read(data, first + row)[0] for row, (data, _) in enumerate(images)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(step_seed(options.seed, step, rank=0))
        images_BCHW = to_unit(torch.from_numpy(np.stack(crops)))
        images_BCHW = augment(images_BCHW, augmentation_of(changes))
        no_targets_BC = torch.zeros(len(images), 1)
        images_BCHW, _ = mix_batch(images_BCHW, no_targets_BC, changes)
    return [_to_pixels(image_CHW) for image_CHW in images_BCHW[:count]]


def _to_pixels(image_CHW: "Tensor") -> Pixels:
    pixels_HWC: Pixels = (image_CHW * 255).round().byte().permute(1, 2, 0).numpy()
    return pixels_HWC
