"""Inference: batches of one shape, failures by image, and answers for pictures of every kind."""

import ast
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from infra.errors import ProtegeError
from infra.store import Store
from tasks.images import Pixels, Unusable, encode_png
from tasks.inference.model import Model, load_model, open_model
from tasks.inference.pictures import read_picture
from tasks.inference.pipeline import (
    BATCHES_AHEAD,
    CHUNKS_AHEAD,
    DECODE_THREADS,
    IMAGES_TOGETHER,
    RESULTS_AHEAD,
    Batch,
    Forward,
    run_pipeline,
)
from tasks.inference.weights import WEIGHTS
from tests.builders.models import CLASSES, model
from tests.builders.pictures import picture

SIZE = 4
EVENT_SECONDS = 60
TASKS = Path(__file__).parent.parent / "tasks"


def decode_number(number: int) -> Pixels:
    """A picture of one grey level; there is none for 13, and 66 breaks the network."""
    if number == 13:
        raise Unusable("damaged", "unlucky")
    return np.full((SIZE, SIZE, 3), number, np.uint8)


def first_pixel(pixels_BHWC: Tensor, _num_images: int) -> Tensor:
    values_B1 = pixels_BHWC[:, 0, 0, :1].float()
    values_B1[values_B1 == 66] = float("nan")
    return values_B1


def run(numbers: list[int], batch_size: int = 4, forward: Forward = first_pixel) -> list[Batch]:
    return list(run_pipeline(numbers, decode_number, forward, size=SIZE, batch_size=batch_size))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8])
def test_every_image_has_its_output_in_order(count: int) -> None:
    numbers = list(range(100, 100 + count))
    batches = run(numbers)
    assert [batch.first for batch in batches] == list(range(0, count, 4))
    assert [value for batch in batches for value in batch.outputs_BC[:, 0].tolist()] == numbers
    assert not any(batch.problems for batch in batches)


def test_all_batches_have_one_shape_and_padding_is_black() -> None:
    seen: list[tuple[tuple[int, ...], int, int]] = []

    def forward(pixels_BHWC: Tensor, num_images: int) -> Tensor:
        seen.append((tuple(pixels_BHWC.shape), num_images, int(pixels_BHWC[num_images:].sum())))
        return first_pixel(pixels_BHWC, num_images)

    run([1, 2, 3, 4, 5], forward=forward)
    assert seen == [((4, SIZE, SIZE, 3), 4, 0), ((4, SIZE, SIZE, 3), 1, 0)]


def test_problems_are_by_image_and_disturb_no_other() -> None:
    batches = run([1, 13, 3, 66, 5, 13])
    problems = {row: problem.reason for batch in batches for row, problem in batch.problems.items()}
    assert problems == {1: "damaged", 3: "not_finite", 5: "damaged"}
    usable = [
        value
        for batch in batches
        for value in batch.outputs_BC[torch.from_numpy(batch.usable), 0].tolist()
    ]
    assert usable == [1, 3, 5]


def test_next_batch_is_decoded_while_the_network_computes() -> None:
    decoding = threading.Event()

    def decode(number: int) -> Pixels:
        if number >= 4:
            decoding.set()
        return decode_number(number)

    def forward(pixels_BHWC: Tensor, num_images: int) -> Tensor:
        assert decoding.wait(EVENT_SECONDS)
        return first_pixel(pixels_BHWC, num_images)

    batches = list(run_pipeline(range(8), decode, forward, size=SIZE, batch_size=4))
    assert len(batches) == 2


def test_images_are_read_only_as_far_as_they_are_decoded_ahead() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    batches = run_pipeline(
        numbers(),
        decode_number,
        first_pixel,
        size=SIZE,
        batch_size=4,
    )
    next(batches)
    # Beside the batch that was given: some wait, and each thread has one.
    batches_ahead = BATCHES_AHEAD + RESULTS_AHEAD + 4
    most = 4 * (1 + batches_ahead) + DECODE_THREADS * CHUNKS_AHEAD * IMAGES_TOGETHER
    assert len(taken) <= most < 100
    assert isinstance(batches, Generator)
    batches.close()


def test_error_of_ours_in_the_decoder_is_not_a_problem_of_the_image() -> None:
    def decode(_number: int) -> Pixels:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(run_pipeline([1], decode, first_pixel, size=SIZE, batch_size=4))


@pytest.fixture
def colours(root: Store) -> Model:
    """A small network with random weights that knows the colours."""
    return load_model(model(root))


def pictures_of(colours: list[str], seed: int = 0) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [encode_png(picture(colour, rng)) for colour in colours]


def test_predictions_are_the_classes_by_probability(colours: Model) -> None:
    images = pictures_of(["red", "green", "blue"])
    logits_NC = colours.logits(np.stack([colours.decode(data) for data in images]))
    probabilities_NC = torch.softmax(logits_NC, dim=1)
    for row, prediction in enumerate(colours.predict(images, top_k=2)):
        order = probabilities_NC[row].argsort(descending=True)[:2].tolist()
        assert prediction.labels == tuple(CLASSES[label] for label in order)
        expected = probabilities_NC[row, order].tolist()
        assert prediction.probabilities == pytest.approx(expected, rel=1e-5)
        assert (prediction.label, prediction.probability) == (
            prediction.labels[0],
            prediction.probabilities[0],
        )


def test_more_classes_than_there_are_cannot_be_had(colours: Model) -> None:
    prediction = colours.predict(pictures_of(["red"]), top_k=50)[0]
    assert set(prediction.labels) == set(CLASSES)
    assert sum(prediction.probabilities) == pytest.approx(1)


def test_pictures_of_every_kind_get_the_same_answer(colours: Model, tmp_path: Path) -> None:
    data = pictures_of(["green"])[0]
    path = tmp_path / "green.png"
    path.write_bytes(data)
    expected = colours.predict([data])
    assert colours.predict([path]) == expected
    assert colours.predict([str(path)]) == expected
    assert colours.predict([Image.open(path)]) == expected
    assert colours.predict(str(path)) == expected
    assert colours.predict(iter([data, data])) == expected * 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_pil_images_of_every_mode_are_read(mode: str) -> None:
    image = Image.fromarray(picture("red", np.random.default_rng(0)))
    image = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    assert read_picture(image).shape == (16, 16, 3)


def test_pil_image_is_turned_upright() -> None:
    image = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    image.getexif()[0x0112] = 6
    assert read_picture(image).shape == (3, 2, 3)


def test_picture_that_cannot_be_used_is_named(colours: Model, tmp_path: Path) -> None:
    good = pictures_of(["red"])[0]
    with pytest.raises(ProtegeError, match="image 1 cannot be used: empty"):
        colours.predict([good, b""])
    with pytest.raises(ProtegeError, match=r"nothing\.png cannot be used: unreadable"):
        colours.predict([tmp_path / "nothing.png"])


def test_model_opens_by_its_folder_and_by_its_file(root: Store) -> None:
    output, images = model(root), pictures_of(["red", "blue"])
    expected = load_model(output).predict(images)
    assert open_model(output.uri).predict(images) == expected
    assert open_model(f"{output.uri}/{WEIGHTS}").predict(images) == expected


def test_address_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProtegeError, match=r"nowhere/weights\.safetensors cannot be used"):
        open_model(str(tmp_path / "nowhere"))
    path = tmp_path / "other.safetensors"
    path.write_bytes(b"not tensors at all")
    with pytest.raises(ProtegeError, match="no weights in the safetensors format"):
        open_model(str(path))


@pytest.mark.parametrize("room", ["score", "evaluate", "inference", "images", "duplicates"])
def test_inference_needs_nothing_of_training(room: str) -> None:
    for path in (TASKS / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("tasks.train"), path


@pytest.mark.parametrize("batch_size", [3, 7, 8, 33])
def test_logits_of_an_image_are_the_same_in_every_place_and_beside_any_others(
    colours: Model, batch_size: int, threads: Callable[[int], None]
) -> None:
    rng = np.random.default_rng(0)
    pixels_NHWC = rng.integers(0, 256, (2 * batch_size, 16, 16, 3), dtype=np.uint8)
    found: dict[int, set[bytes]] = {}
    for count in (1, 2):
        threads(count)
        for first in range(batch_size + 1):
            rows = np.roll(np.arange(2 * batch_size), -first)[:batch_size]
            for row, logits_C in zip(rows.tolist(), colours.logits(pixels_NHWC[rows])):
                found.setdefault(row, set()).add(logits_C.numpy().tobytes())
    assert len(found) == 2 * batch_size
    assert all(len(values) == 1 for values in found.values())


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of torch's threads until the end of the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_logits_are_the_head_of_the_features(colours: Model) -> None:
    pixels_NHWC = np.stack([colours.decode(data) for data in pictures_of(["red", "blue"])])
    features_ND = colours.features(pixels_NHWC)
    assert features_ND.dtype == torch.float32
    with torch.no_grad():
        expected_NC = colours.network.head(features_ND)
    assert torch.allclose(colours.logits(pixels_NHWC), expected_NC, rtol=1e-5)
