"""Program: a network as one function of a batch of any size, for other runtimes.

In: a model on the CPU. Out: torch's ExportedProgram: images (B, 3, S, S) to logits (B, C).

    program = export_program(model)
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from infra.errors import ProtegeError, describe_error
from models.network import Network
from tasks.export.preprocessing import BATCH, CHANNELS, INPUT
from tasks.inference.model import Model

# torch specialises a graph for batches of 0 and 1; any other size stands for all.
TRACED_BATCH = 3


class Classifier(nn.Module):
    """Images to logits, the head as the plain linear layer that it is in other software.

    `Network.logits` computes each image by itself, which changes the last bits alone, and would
    freeze the size of the batch in a graph.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C) of standardised images (B, 3, S, S); the name is that of the input."""
        logits_BC: Tensor = self.network.head(self.network.features(images).float())
        return logits_BC


def export_program(model: Model) -> ExportedProgram:
    """The program. Raises ProtegeError for a network whose graph holds for one size of batch."""
    size = model.description.inputs.size
    images_BCHW = torch.zeros(TRACED_BATCH, CHANNELS, size, size)
    classifier = Classifier(model.network).eval()
    try:
        with tracing(), torch.no_grad():
            return torch.export.export(
                classifier, (images_BCHW,), dynamic_shapes={INPUT: {0: Dim(BATCH)}}
            )
    except Exception as error:  # torch raises whatever its tracer stumbles over
        raise ProtegeError(
            f"{model.description.model} cannot be exported for batches of any size: "
            f"{describe_error(error).splitlines()[0]}. The formats timm and hf need no graph"
        ) from error


@contextmanager
def tracing() -> Iterator[None]:
    """What torch needs while it works on graphs, and its notes on its own parts kept silent.

    It asks for its older switch of TF32, which is an error once `computing_in` has set the newer
    ones to anything but their first state. Nothing is computed meanwhile.
    """
    # Torch makes these modules when it is imported, so no type checker knows them.
    switches: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn)  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for switch in switches:
                switch.fp32_precision = "tf32"
            yield
    finally:
        logger.setLevel(level)
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision
