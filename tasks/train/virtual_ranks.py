"""Virtual ranks: a step is the same arithmetic for any number of processes.

A batch is cut into equal shares, one for each virtual rank. A share has batch norm statistics,
augmentation, mixing and random numbers of its own, whichever process computes it. A process
computes one virtual rank or several in turn, and adds up their gradients.

    ranks = own_ranks(world.rank, world.size, num_ranks=8)
    buffers = BufferAverage(network, num_ranks=8)
    buffers.start_step()
    for rank in ranks:
        buffers.start_rank()
        ...                     # forward and backward
        buffers.add_rank()
    buffers.finish_step(all_sum)
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

AllSum = Callable[[Tensor], Tensor]


def own_ranks(process: int, num_processes: int, num_ranks: int) -> range:
    """The virtual ranks of a process: as many as every other has, or one more."""
    return range(process * num_ranks // num_processes, (process + 1) * num_ranks // num_processes)


class BufferAverage:
    """The buffers of a network (running means and variances) after a step of all virtual ranks.

    Every virtual rank updates them as they were before the step; their mean is what counts. Whole
    numbers, which count the steps, are the same of each.
    """

    def __init__(self, network: nn.Module, num_ranks: int) -> None:
        self._num_ranks = num_ranks
        # One rank alone changes them as it always would.
        self._buffers = list(network.buffers()) if num_ranks > 1 else []
        self._averaged = [buffer for buffer in self._buffers if buffer.is_floating_point()]
        self._before: list[Tensor] = []
        self._sums: list[Tensor] = []

    @torch.no_grad()
    def start_step(self) -> None:
        """Remember the buffers."""
        self._before = [buffer.clone() for buffer in self._buffers]
        self._sums = [torch.zeros_like(buffer) for buffer in self._averaged]

    @torch.no_grad()
    def start_rank(self) -> None:
        """Put the buffers back to what they were before the step."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._before)

    @torch.no_grad()
    def add_rank(self) -> None:
        """Add what this virtual rank has made of them."""
        if self._averaged:
            torch._foreach_add_(self._sums, self._averaged)

    @torch.no_grad()
    def finish_step(self, all_sum: AllSum) -> None:
        """Set the buffers to the mean over all virtual ranks; `all_sum` adds over processes."""
        if not self._averaged:
            return
        total = all_sum(torch.cat([part.flatten() for part in self._sums])) / self._num_ranks
        sizes = [buffer.numel() for buffer in self._averaged]
        for buffer, mean in zip(self._averaged, total.split(sizes), strict=True):
            buffer.copy_(mean.view_as(buffer))
