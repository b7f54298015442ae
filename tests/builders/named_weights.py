"""Named weights: of every key the same tensor, whoever built the network, on every machine.

    network.load_state_dict(named_weights(network.state_dict(), gain=1))
    logits_BC = network(named_images(1, 3, 97, 64))

In: the keys and shapes of a state dict. Out: tensors that follow from them alone, of a size with
which activations neither vanish nor explode. Two implementations of a network agree with them, or
one is wrong. numpy promises the numbers of `RandomState` for ever.
"""

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def named_weights(state: Mapping[str, Tensor], gain: float) -> dict[str, Tensor]:
    """Tensors with these keys and shapes.

    `gain` is the factor of the matrices' deviations: the deeper a network without shortcuts, the
    larger it must be, or its logits no longer depend on the image.
    """
    return {key: _weight(key, tensor, gain) for key, tensor in state.items()}


def named_images(*shape: int) -> Tensor:
    """Float32 pixels between -2 and 2 of this shape, for example (B, 3, H, W)."""
    return _uniform(f"images{shape}", shape, 2.0)


def _weight(key: str, tensor: Tensor, gain: float) -> Tensor:
    shape, name = tuple(tensor.shape), key.rpartition(".")[2]
    if not tensor.is_floating_point():
        return torch.zeros_like(tensor)
    if name == "running_var":
        return 1 + _uniform(key, shape, 0.5)
    if len(shape) == 1 and name == "weight":
        return 0.8 + _uniform(key, shape, 0.2)
    if name in ("bias", "running_mean") or len(shape) < 2:
        return _uniform(key, shape, 0.1)
    return _uniform(key, shape, gain * math.sqrt(3 / math.prod(shape[1:])))


def _uniform(key: str, shape: tuple[int, ...], bound: float) -> Tensor:
    values = np.random.RandomState(zlib.crc32(key.encode())).uniform(-bound, bound, shape)
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
