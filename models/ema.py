"""Ema: an exponential moving average of a network's weights and buffers.

In: a network that trains. Out: a second one that follows it more smoothly, and is the one to keep
("Mean teachers are better role models", Tarvainen and Valpola 2017).
"""

import copy

import torch
from torch import nn


class Ema:
    """Averages weights as `decay * average + (1 - decay) * current`.

    The decay grows from 0.1 to its full value, as min(decay, (1 + n) / (10 + n)) after n updates,
    so that the random initial weights are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, updates: int) -> None:
        """Move the average towards `network`, which has been updated `updates` times before."""
        decay = min(self._decay, (1 + updates) / (10 + updates))
        current = network.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name], 1 - decay)
            else:
                average.copy_(current[name])
