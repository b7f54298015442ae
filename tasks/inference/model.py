"""Model: a network whose training is finished, on the device of this process.

In: the output of a training, or a weights file. Out: logits of pixels, or classes of images.

    model = open_model("out/train/3f2a90cc11d0ab42")
    model.predict(["cat.jpg", "dog.jpg"])[0].label
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infra.devices import gpu_count, worker_gpu
from infra.errors import ProtegeError
from infra.store import split_uri
from models.network import Network
from models.pixels import channels_last, standardise, to_unit
from models.precision import Precision, computing_in
from tasks.contract import Output
from tasks.images import Pixels
from tasks.inference.pictures import Picture, describe_picture, read_picture
from tasks.inference.pipeline import (
    DECODE_THREADS,
    RESULTS_AHEAD,
    Batch,
    Decode,
    Item,
    run_pipeline,
)
from tasks.inference.weights import WEIGHTS, Description, load_network, parse_network

Change = Callable[[Tensor], Tensor]

CACHED_MODELS = 4
FLOAT_BYTES = 4
MOST_BYTES_AHEAD = 16 << 20  # of logits that wait for the caller


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, best first, and their probabilities."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.labels[0]

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return self.probabilities[0]


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode, its description and its device."""

    network: Network
    description: Description
    device: torch.device
    compiled: Callable[[Tensor], Tensor] | None = None
    """The features of the network as torch has compiled them for batches of one shape."""
    others: tuple["Model", ...] = ()
    """Models whose logits are averaged with those of this one."""

    @property
    def num_features(self) -> int:
        """How many features an image has."""
        size = self.description.inputs.size
        with torch.no_grad():
            return self.network.features(torch.zeros(1, 3, size, size, device=self.device)).shape[1]

    def decode(self, picture: Picture) -> Pixels:
        """The network's input, pixels (S, S, 3), from an image. Raises Unusable."""
        return self.description.inputs.square(read_picture(picture))

    def logits(
        self,
        pixels_BHWC: Pixels | Tensor,
        precision: Precision = "float32",
        *,
        change: Change | None = None,
    ) -> Tensor:
        """Logits (B, C), float32, of uint8 pixels (B, S, S, 3).

        `change` is done to the images, (B, 3, S, S) in [0, 1], before they are standardised.
        """
        return self.logits_and_features(pixels_BHWC, precision, change=change)[0]

    def logits_and_features(
        self,
        pixels_BHWC: Pixels | Tensor,
        precision: Precision = "float32",
        *,
        change: Change | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, C) as `logits` gives them, and the features (B, D) of this network."""
        features_BD = self.features(pixels_BHWC, precision, change=change)
        with torch.no_grad():
            logits_BC = self.network.logits(features_BD)
        if self.others:
            others = [other.logits(pixels_BHWC, precision, change=change) for other in self.others]
            logits_BC = torch.stack([logits_BC, *others]).mean(dim=0)
        return logits_BC, features_BD

    def features(
        self,
        pixels_BHWC: Pixels | Tensor,
        precision: Precision = "float32",
        *,
        change: Change | None = None,
    ) -> Tensor:
        """Features (B, D), float32, of uint8 pixels (B, S, S, 3): what the head sees."""
        inputs = self.description.inputs
        images_BCHW = to_unit(torch.as_tensor(pixels_BHWC).to(self.device))
        if change is not None:
            images_BCHW = change(images_BCHW)
        images_BCHW = standardise(images_BCHW, inputs.mean, inputs.std)
        with torch.no_grad(), computing_in(precision, self.device):
            features_BD = (self.compiled or self.network.features)(images_BCHW)
        return features_BD.float()

    def run(
        self,
        items: Iterable[Item],
        decode: Decode[Item],
        *,
        batch_size: int,
        precision: Precision = "float32",
        flip: bool = False,
        features: bool = False,
        decode_threads: int = DECODE_THREADS,
    ) -> Iterator[Batch]:
        """Logits of many images, batch by batch, as `run_pipeline` gives them.

        With `flip`, they are the mean of those of an image and of its mirror image; with
        `features`, those (B, D) stand behind the logits (B, C).
        """

        def look(pixels_BHWC: Tensor) -> Tensor:
            if not features:
                return self.logits(pixels_BHWC, precision)
            return torch.cat(self.logits_and_features(pixels_BHWC, precision), dim=1)

        def forward(pixels_BHWC: Tensor, _num_images: int) -> Tensor:
            outputs_BC = look(pixels_BHWC)
            return (outputs_BC + look(pixels_BHWC.flip(2))) / 2 if flip else outputs_BC

        # The logits of tens of thousands of classes are larger than their images.
        outputs = len(self.description.classes) + (self.num_features if features else 0)
        batch_bytes = batch_size * outputs * FLOAT_BYTES
        return run_pipeline(
            items,
            decode,
            forward,
            size=self.description.inputs.size,
            batch_size=batch_size,
            decode_threads=decode_threads,
            device=self.device,
            results_ahead=RESULTS_AHEAD if batch_bytes <= MOST_BYTES_AHEAD else 0,
        )

    def predict(
        self, images: Picture | Iterable[Picture], *, top_k: int = 5, batch_size: int = 64
    ) -> list[Prediction]:
        """The `top_k` most probable classes of each image.

        An image is the address of a file, the bytes of a file, or a PIL image. Raises ProtegeError
        for an image that cannot be used.
        """
        # A single path would otherwise be read letter by letter.
        pictures = [images] if isinstance(images, Picture) else list(images)
        predictions: list[Prediction] = []
        for batch in self.run(pictures, self.decode, batch_size=batch_size):
            if batch.problems:
                row = min(batch.problems)
                name = describe_picture(pictures[row], row)
                raise ProtegeError(f"{name} cannot be used: {batch.problems[row]}")
            predictions += self.most_probable(batch.outputs_BC, top_k)
        return predictions

    def most_probable(self, logits_BC: Tensor, top_k: int) -> list[Prediction]:
        """The `top_k` most probable classes, or all if there are fewer, of each row of logits."""
        classes = self.description.classes
        best = torch.softmax(logits_BC.double(), dim=1).topk(min(top_k, len(classes)), dim=1)
        return [
            Prediction(tuple(classes[label] for label in labels), tuple(probabilities))
            for labels, probabilities in zip(best.indices.tolist(), best.values.tolist())
        ]


@functools.lru_cache(maxsize=CACHED_MODELS)
def load_model(output: Output) -> Model:
    """The model that a training has made; a worker loads it once. Raises ProtegeError."""
    return _to_device(*load_network(output))


def load_average(outputs: Sequence[Output]) -> Model:
    """The models of these trainings as one, with the mean of their logits.

    Its features are those of the first. Raises ProtegeError when they do not fit together.
    """
    first, *others = (load_model(output) for output in outputs)
    for output, other in zip(outputs[1:], others, strict=True):
        found, expected = other.description, first.description
        if (found.classes, found.inputs) != (expected.classes, expected.inputs):
            raise ProtegeError(
                f"the logits of {output.uri} and of {outputs[0].uri} cannot be averaged: they have "
                "other classes, or look at images of another size. Train them alike"
            )
    return replace(first, others=tuple(others))


def open_model(address: str) -> Model:
    """The model at an address: a weights file of ours, or the folder of a training.

    Raises ProtegeError when it cannot be read, or was not written by protege.
    """
    uri = address if address.endswith(".safetensors") else f"{address.rstrip('/')}/{WEIGHTS}"
    store, name = split_uri(uri)
    try:
        return _to_device(*parse_network(store.read(name)))
    except (OSError, ProtegeError) as error:
        raise ProtegeError(f"{uri} cannot be used as a model: {error}") from error


def _to_device(network: Network, description: Description) -> Model:
    """The model on the GPU of this worker, where there is one."""
    device = torch.device("cpu")
    if gpu_count():
        device = torch.device("cuda", worker_gpu())
    return Model(channels_last(network.to(device)), description, device)
