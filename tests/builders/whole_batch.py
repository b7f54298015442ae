"""Whole batch: a step that looks at the images of all processes, in one or in two of them.

In: the place of a process. Out: the loss, the gradients and the running statistics, as lists; in a
launched process as a line of progress. In float64, so that only an error can tell them apart.

    alone = whole_batch_step(rank=0, size=1)
    lines = launch("tests.builders.whole_batch", job, processes=2, threads=1)
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from infra.launch import watch_launcher, write_progress
from models.collectives import gather_with_gradient
from models.losses import nt_xent
from models.sync_batch_norm import sync_batch_norms
from tasks.train.world import join_world, leave_world

NUM_IMAGES = 8


def make_network() -> nn.Sequential:
    """Batch norm over maps and over vectors, with and without a shift."""
    torch.manual_seed(0)
    last_norm = nn.BatchNorm1d(3)
    last_norm.register_parameter("bias", None)
    maps = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    network = nn.Sequential(*maps, nn.Linear(16, 3, bias=False), last_norm)
    sync_batch_norms(network)
    return network.double()


def make_views() -> Tensor:
    """Two views of each image, whose share for each process differs in its statistics."""
    generator = torch.Generator().manual_seed(1)
    views = torch.randn(2, NUM_IMAGES, 2, 4, 4, generator=generator, dtype=torch.float64)
    return views + torch.arange(NUM_IMAGES).view(1, -1, 1, 1, 1) / 2


def whole_batch_step(rank: int, size: int) -> dict[str, Any]:
    """The loss of one step and what it does, as means over the processes."""
    network, views = make_network(), make_views()
    share = NUM_IMAGES // size
    own_views = views[:, rank * share : (rank + 1) * share]
    embeddings = network(own_views.flatten(0, 1)).view(2, share, -1)
    everything = torch.cat(list(gather_with_gradient(embeddings)), dim=1)
    loss, _ = nt_xent(embeddings, everything, rank * share, temperature=0.5)
    loss.backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    total = torch.cat(
        [loss.detach()[None], *(part.flatten() for part in gradients if part is not None)]
    )
    if size > 1:
        dist.all_reduce(total)
    buffers = torch.cat([buffer.double().flatten() for buffer in network.buffers()])
    return {"rank": rank, "step": (total / size).tolist(), "buffers": buffers.tolist()}


if __name__ == "__main__":
    watch_launcher()
    world = join_world()
    write_progress(whole_batch_step(world.rank, world.size))
    leave_world(world)
