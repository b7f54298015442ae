"""Predict: a finished model, ready to answer, on the device of this process.

In: the output of a training. Out: logits of decoded pixels. Workers load a model once.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from infra.devices import worker_gpu
from models.pixels import channels_last, standardise, to_unit
from tasks.contract import Output
from tasks.images import Pixels
from tasks.inference.weights import Description, load_network

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Model:
    """A network in evaluation mode, what it expects, and where it lies."""

    network: nn.Module
    description: Description
    device: torch.device

    def logits(self, pixels_BHWC: Pixels, precision: Precision = "float32") -> Tensor:
        """Logits (B, C), float32, of uint8 pixels (B, S, S, 3)."""
        inputs = self.description.inputs
        images_BHWC = torch.from_numpy(np.ascontiguousarray(pixels_BHWC)).to(self.device)
        images_BCHW = standardise(to_unit(images_BHWC), inputs.mean, inputs.std)
        low = precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            logits_BC: Tensor = self.network(images_BCHW)
        return logits_BC.float()


@functools.lru_cache(maxsize=4)
def load_model(model: Output) -> Model:
    """The model, on the GPU of this worker where there is one."""
    network, description = load_network(model)
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", worker_gpu())
    return Model(channels_last(network.to(device)), description, device)
