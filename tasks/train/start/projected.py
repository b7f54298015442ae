"""Projected: a network that goes on from inside the projection head of contrastive training.

In: a network that was trained without classes, and the tensors of its projection head. Out: the
network with the first layer of that head, and a new head for the classes. A model of ours has its
projection head in a file beside its weights, SimCLRv2-Pytorch under the key `head` of its file.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from infra.errors import ProtegeError
from infra.store import Store
from models.registry import PROJECTED
from tasks.train.job import PROJECTION

if TYPE_CHECKING:
    from torch import Tensor

    from models.network import Network

# torch is imported where it is needed: weights are looked at without it.


def goes_on_from(model: str, other: str) -> bool:
    """Whether the model is the other one with the first layer of its projection head."""
    return model == other + PROJECTED


def projected_network(
    network: "Network", head: "Mapping[str, Tensor]", num_classes: int, uri: str
) -> "Network":
    """The network, which is taken over, with the first layer of the head and a new head of classes.

    Raises ProtegeError, with the address that both come from, where they do not fit.
    """
    from models.networks.projection import ProjectedNetwork

    projected = ProjectedNetwork(network, num_classes)
    try:
        projected.start_from(head)
    except ValueError as error:
        raise ProtegeError(f"{uri}: {error}") from error
    return projected


def read_projection(store: Store) -> "Mapping[str, Tensor]":
    """The tensors of the projection head of a model of ours. Raises FileNotFoundError."""
    import safetensors.torch

    return safetensors.torch.load(store.read(PROJECTION))


def no_projection(uri: str) -> ProtegeError:
    """What to say of a model that was not trained contrastively."""
    return ProtegeError(
        f"{uri} has no projection head, which contrastive training leaves beside a model: take "
        f"another one, or the model without {PROJECTED}"
    )
