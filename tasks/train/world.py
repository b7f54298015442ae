"""World: the processes that train one network together, and the place of this one among them."""

import os
import warnings
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from infra.devices import gpu_count
from infra.errors import ProtegeError

COLLECTIVE_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class World:
    """This process among all of the job."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes the checkpoints, the progress and the result."""
        return self.rank == 0

    def all_sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in the same tensor."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor


def join_world() -> World:
    """This process's place in the job, from torchrun's environment.

    Raises ProtegeError when the settings ask for a GPU and there is none.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if gpus := gpu_count():
        if local_rank >= gpus:
            raise ProtegeError(
                f"this machine has {gpus} GPUs for {local_rank + 1} or more training processes, "
                f"and each needs its own: set PROTEGE_TRAINING__PROCESSES={gpus}"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if size > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    return World(rank, size, device)


def share_gradients(network: nn.Module) -> DistributedDataParallel:
    """The network, whose gradients become their mean over all processes."""
    with warnings.catch_warnings():
        # The name that torch 2.13 recommends does not exist in older versions, and does another
        # thing: it would copy the buffers of rank 0 at the start, where all are the same already.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        return DistributedDataParallel(
            network, broadcast_buffers=False, gradient_as_bucket_view=True
        )


def leave_world(world: World) -> None:
    """Wait for the other processes, so that none ends before the result is published."""
    if world.size > 1:
        dist.barrier()
        dist.destroy_process_group()


def check_same_step(step: int, size: int) -> None:
    """Raise ProtegeError when the processes of this job have not found the same checkpoint."""
    steps: list[int] = [0] * size
    dist.all_gather_object(steps, step)
    if len(set(steps)) > 1:
        raise ProtegeError(
            f"the training processes would resume from different steps ({steps}): another run has "
            "just written or deleted a checkpoint. Run again"
        )
