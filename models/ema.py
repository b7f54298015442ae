"""EMA: an exponential moving average of a network's weights and buffers.

In: a network in training. Out: a second network, whose weights are the average; it is usually the
more accurate of the two ("Mean teachers are better role models", Tarvainen and Valpola 2017).

    ema = Ema(network, decay=0.9999)
    ema.update(network, num_updates=step)  # after every step
    ema.network
"""

import copy

import torch
from torch import nn


class Ema:
    """Averages weights as `decay * average + (1 - decay) * current`.

    After n updates the decay is min(decay, (1 + n) / (10 + n)), which rises from 0.1. So the random
    initial weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, num_updates: int) -> None:
        """Move the average towards `network`; `num_updates` is the number of updates so far."""
        decay = min(self._decay, (1 + num_updates) / (10 + num_updates))
        current = network.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name], 1 - decay)
            else:
                average.copy_(current[name])
