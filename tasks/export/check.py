"""Check: whether files that were written give the answers of the network that they came from.

In: the network, and what reads the files. Out: a `Check`, or an error, so that nothing wrong is
published.

    check_answers(model, session_logits, "onnxruntime 1.32.0").largest_difference
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infra.errors import ProtegeError
from models.pixels import standardise, to_unit
from tasks.export.preprocessing import CHANNELS
from tasks.inference.model import Model

BATCH_SIZES = (1, 2, 5)
SEED = 0
# Of the largest logit. Another order of additions in float32 gives 1e-6, a wrong layer 0.1 or more.
TOLERANCE = 1e-4

Answer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Check:
    """Who has read the files, and the largest difference of a logit from the network's."""

    reader: str
    batch_sizes: tuple[int, ...]
    largest_difference: float

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.batch_sizes))
        return (
            f"read back by {self.reader}, in batches of {sizes}: the logits differ by at most "
            f"{self.largest_difference:.1e}"
        )


def check_answers(model: Model, answer: Answer, reader: str) -> Check:
    """Compare the logits of `answer` with those of the model, for images of random pixels.

    Raises ProtegeError when they differ by more than `TOLERANCE`, or are not finite.
    """
    largest = 0.0
    for batch_size in BATCH_SIZES:
        images_BCHW = _images(model, batch_size)
        with torch.no_grad():
            expected_BC, found_BC = model.network(images_BCHW), answer(images_BCHW)
        if not torch.isfinite(expected_BC).all():
            raise ProtegeError(
                f"{model.description.model} answers what is no number: its weights are of no use"
            )
        difference = _difference(found_BC, expected_BC)
        if not difference <= TOLERANCE * max(1.0, float(expected_BC.abs().max())):
            raise ProtegeError(
                f"nothing was written: {reader} gives logits of {model.description.model} that "
                f"differ by {difference:.1e} in a batch of {batch_size}"
            )
        largest = max(largest, difference)
    return Check(reader, BATCH_SIZES, largest)


def _difference(found_BC: Tensor, expected_BC: Tensor) -> float:
    """The largest difference; infinite for another number of images or of classes."""
    if found_BC.shape != expected_BC.shape:
        return float("inf")
    return float((found_BC.float() - expected_BC).abs().max())


def _images(model: Model, batch_size: int) -> Tensor:
    """Standardised images (B, 3, S, S) of random pixels, the same each time."""
    inputs = model.description.inputs
    generator = torch.Generator().manual_seed(SEED + batch_size)
    shape = (batch_size, inputs.size, inputs.size, CHANNELS)
    pixels_BHWC = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    images_BCHW = standardise(to_unit(pixels_BHWC), inputs.mean, inputs.std)
    return images_BCHW.contiguous()
