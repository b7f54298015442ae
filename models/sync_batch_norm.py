"""Batch norm over the batches of all processes, instead of each by itself.

In: a network. Out: the same network, with the same weights and names, whose batch norms exchange
their statistics in training.

    sync_batch_norms(network)

torch's own class runs on GPUs alone. Means and variances are combined as in SimCLRv2 (Chen et al.
2020; model_util.py and resnet.py of google-research/simclr): the variance of all is the mean of the
variances plus the variance of the means. Each process must have as many images as every other.
"""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.collectives import gather_with_gradient


def sync_batch_norms(network: nn.Module) -> None:
    """Replace every batch norm below `network`, in place; parameters stay the same objects.

    Raises ValueError for a kind of batch norm that does more than normalise.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) in {nn.BatchNorm1d, nn.BatchNorm2d}:
                assert isinstance(child, _BatchNorm)
                setattr(module, name, _synced(child))
            elif isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
                raise ValueError(
                    f"the statistics of a {type(child).__name__} cannot be taken over all processes"
                )


class SyncBatchNorm(_BatchNorm):
    """A batch norm of any number of dimensions, (B, C, ...), in float32 at least."""

    def forward(self, x: Tensor) -> Tensor:
        """The normalised values, in the type of the input."""
        if not self.training:
            return super().forward(x)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        all_but_C = [0, *range(2, x.ndim)]
        own_2C = torch.stack([values.mean(all_but_C), values.var(all_but_C, correction=0)])
        means_WC, variances_WC = gather_with_gradient(own_2C).unbind(dim=1)
        mean_C = means_WC.mean(dim=0)
        variance_C = variances_WC.mean(dim=0) + (means_WC - mean_C).square().mean(dim=0)
        count = len(means_WC) * values.numel() // values.shape[1]
        self._track(mean_C.detach(), variance_C.detach() * count / max(1, count - 1))

        scale_C = torch.rsqrt(variance_C + self.eps)
        if self.weight is not None:
            scale_C = scale_C * self.weight
        shape = [1, -1] + [1] * (x.ndim - 2)
        output = (values - mean_C.view(shape)) * scale_C.view(shape)
        if self.bias is not None:
            output = output + self.bias.view(shape)
        return output.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean_C: Tensor, variance_C: Tensor) -> None:
        """Update the running statistics, as torch's batch norm does."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_C, self.momentum)
        self.running_var.lerp_(variance_C, self.momentum)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions will do."""


def _synced(norm: _BatchNorm) -> SyncBatchNorm:
    synced = SyncBatchNorm(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    for name in ("weight", "bias"):
        setattr(synced, name, getattr(norm, name))
    for name, buffer in norm.named_buffers():
        setattr(synced, name, buffer)
    return synced.train(norm.training)
