"""EMA: an exponential moving average of a network's weights and buffers.

In: a network in training. Out: a second network, whose weights are the average; it is usually the
more accurate of the two ("Mean teachers are better role models", Tarvainen and Valpola 2017).

    ema = Ema(network, decay=0.9999)
    ema.update(num_updates=step)  # after every step
    ema.network
"""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Averages weights as `decay * average + (1 - decay) * current`.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), which rises from 0.1. So the random
    initial weights are soon forgotten. `network` must keep its tensors, as it does in training and
    in `load_state_dict`: they are listed once, and all averaged at a time.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        self._current, self._current_counts = _tensors(network)
        self._averages, self._counts = _tensors(self.network)

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Move the average towards the network; `num_updates` is the number of updates so far."""
        decay = min(self._decay, (1 + num_updates) / (10 + num_updates))
        torch._foreach_lerp_(self._averages, self._current, 1 - decay)
        if self._counts:
            torch._foreach_copy_(self._counts, self._current_counts)


def _tensors(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """All tensors of the state: those in floating point, and whole numbers, which are counts."""
    tensors = list(network.state_dict(keep_vars=True).values())
    floats = [tensor.detach() for tensor in tensors if tensor.is_floating_point()]
    return floats, [tensor for tensor in tensors if not tensor.is_floating_point()]
