"""Contrastive: two views of an image are to be nearer to one another than to any other image.

"Big self-supervised models" (SimCLRv2, Chen et al. 2020), section 2, with the images of all
processes as negatives. The network's head is not trained; a projection takes its place, which is
published beside the network.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.collectives import gather_with_gradient, own_rank
from models.losses import nt_xent
from models.network import Network
from models.networks.projection import ContrastiveNetwork, ProjectionHead
from models.pixels import standardise
from tasks.train.job import TRAIN_SET
from tasks.train.objective_options import ContrastiveOptions
from tasks.train.objectives.base import Objective, TensorBatch
from tasks.train.options import TrainOptions

# The authors' code (objective.py of google-research/simclr) adds the means of both directions,
# where the paper has the mean over all views; rates and weight decay are tuned to the sum.
NUM_DIRECTIONS = 2


class Contrastive(Objective):
    """Learn from two views of each image."""

    sources: Mapping[str, float] = {TRAIN_SET: 1.0}
    num_views = 2

    def __init__(self, options: TrainOptions, contrastive_options: ContrastiveOptions) -> None:
        self._options, self._contrastive = options, contrastive_options

    def module(self, network: Network) -> nn.Module:
        """The network with a projection in place of its head."""
        chosen, width = self._contrastive, network.head.in_features
        projection = ProjectionHead(width, chosen.projection_size, chosen.projection_layers)
        projection.to(network.head.weight.device)
        return ContrastiveNetwork(network, projection)

    def loss(
        self, network: nn.Module, batches: Mapping[str, TensorBatch]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Twice the mean of NT-Xent; measures the mean, and how often a view is nearest."""
        inputs = self._options.inputs
        images_BCHW = standardise(batches[TRAIN_SET].images_BCHW, inputs.mean, inputs.std)
        embeddings = network(images_BCHW).float()
        own_2BD = embeddings.view(2, len(embeddings) // 2, -1)
        all_2GD = torch.cat(list(gather_with_gradient(own_2BD)), dim=1)
        first = own_rank() * own_2BD.shape[1]
        mean, nearest = nt_xent(own_2BD, all_2GD, first, self._contrastive.temperature)
        return NUM_DIRECTIONS * mean, {"nt_xent": mean.detach(), "nearest": nearest}
