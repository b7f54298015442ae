"""Collectives: what the processes of one training exchange in the middle of a forward pass.

In: a tensor of this process. Out: those of all processes, with gradients that flow back to each.
A process that is alone exchanges nothing.

    statistics_WC = gather_with_gradient(statistics_C)
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def gather_with_gradient(tensor: Tensor) -> Tensor:
    """The tensors of all processes, shape (processes, ...), in the order of their ranks.

    All must have the same shape. The gradient of a tensor is the sum of those that all processes
    have for it, so that the sum of their losses is what is derived.
    """
    if not dist.is_initialized():
        return tensor[None]
    # torch declares no types for it.
    gathered: Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return gathered


def own_rank() -> int:
    """The place of this process in what was gathered."""
    return dist.get_rank() if dist.is_initialized() else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        tensors = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(tensors, tensor.contiguous())
        return torch.stack(tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total[dist.get_rank()]
