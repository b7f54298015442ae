"""Fastest: a network in the form in which it looks at batches of one shape fastest.

In: a model, its batches, and how many images there are. Out: the same model, compiled or not, as a
measurement on this machine says, or the options. Its outputs differ by rounding.

    model = fastest(model, "auto", batch_size=256, precision="bfloat16", num_images=10**9)
"""

import dataclasses
import functools
import logging
import time

import torch

from infra.errors import describe_error
from models.precision import Precision
from tasks.compiling import CANNOT, is_wanted, keep_compiled_code, kept_seconds, measure_passes
from tasks.inference.device_facts import device_facts
from tasks.inference.model import CACHED_MODELS, Model
from tasks.options import CompileChoice

logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=CACHED_MODELS)
def fastest(
    model: Model, choice: CompileChoice, *, batch_size: int, precision: Precision, num_images: int
) -> Model:
    """The model for these batches; one that torch cannot compile is a warning, and stays."""
    left = -(-num_images // batch_size)
    passes = _Passes(model, batch_size, precision)
    try:
        if not is_wanted(choice, model.device.type, None, lambda: passes.pay(left)):
            return model
        passes.compile()
        passes.run(1)
    # Whatever torch, Triton or a C++ compiler raises: without them it is done as well.
    except Exception as error:
        logger.warning("%s: %s", CANNOT, describe_error(error))
        return model
    return passes.model


class _Passes:
    """Passes of batches of one shape through a model, which may become a compiled one."""

    def __init__(self, model: Model, batch_size: int, precision: Precision) -> None:
        self.model, self._precision = model, precision
        size = model.description.inputs.size
        self._pixels_BHWC = torch.zeros(batch_size, size, size, 3, dtype=torch.uint8)

    def compile(self) -> None:
        """Let torch compile the features when they are asked for."""
        keep_compiled_code()
        compiled = torch.compile(self.model.network.features, dynamic=False)
        self.model = dataclasses.replace(self.model, compiled=compiled)

    def run(self, count: int) -> float:
        """The seconds of a pass."""
        began, device = time.perf_counter(), self.model.device
        for _ in range(count):
            self.model.features(self._pixels_BHWC, self._precision)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - began) / count

    def pay(self, left: int) -> bool:
        """Whether compiling pays for so many passes, as measured here or before."""
        key = {
            "model": self.model.description.model,
            "pixels": list(self._pixels_BHWC.shape),
            "precision": self._precision,
            **device_facts(self.model.device),
        }
        seconds = kept_seconds("look", key, lambda: measure_passes(self.run, self.compile, left))
        return seconds is not None and seconds.pays(left)
