"""Precision: the arithmetic of a network.

    with computing_in("tf32", device):
        features_BD = network.features(images_BCHW)

`float32` is exact single precision. Of a product, `tf32` keeps 10 bits of the factors and adds up
in single precision, on NVIDIA GPUs since Ampere; elsewhere it is float32. `bfloat16` keeps 8 bits
of most intermediate results.
"""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "tf32", "bfloat16"]


def computing_in(precision: Precision, device: "torch.device") -> AbstractContextManager[None]:
    """The context of a forward pass, which decides on the backward pass as well."""
    # Imported here: options name a precision and are read without torch.
    import torch

    # torch by itself computes convolutions in TF32, whatever their tensors say.
    products = "tf32" if precision == "tf32" else "ieee"
    # Torch makes these modules when it is imported, so no type checker knows them.
    torch.backends.cudnn.conv.fp32_precision = products  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = products  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = products
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def repeat_convolutions(*, exactly: bool) -> None:
    """Let cuDNN compute each convolution alike every time, or else as is fastest here.

    The fastest ways are measured when a shape is first seen, and some of them add up in another
    order each time. For this process, from now on.
    """
    import torch

    torch.backends.cudnn.deterministic = exactly
    torch.backends.cudnn.benchmark = not exactly
