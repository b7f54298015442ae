"""Models: finished outputs of `train` with random weights."""

import torch
from torch import nn

from infra.store import Store, open_store
from models.registry import build
from tasks import contract
from tasks.contract import Manifest, Output, Receipt
from tasks.images import Inputs
from tasks.inference.weights import WEIGHTS, Description, save_weights
from tests.builders.pictures import COLOURS

CLASSES = tuple(COLOURS)


def model(
    root: Store,
    name: str = "small_resnet_8",
    seed: int = 0,
    spoil: bool = False,
    classes: tuple[str, ...] = CLASSES,
) -> Output:
    """A model with random weights, as a finished training leaves it; a spoiled one answers NaN."""
    torch.manual_seed(seed)
    network = build(name, len(classes)).eval()
    if spoil:
        with torch.no_grad():
            head_of(network).bias.fill_(float("nan"))
    return _published(root, name, network, classes)


def colour_model(root: Store, weight: float = 1.0) -> Output:
    """A model that tells all colours apart; with no weight, one that takes everything for red."""
    network = build("mean_colour", len(CLASSES)).eval()
    blue, green, red = weight * torch.eye(3).flip(0)
    with torch.no_grad():
        head_of(network).weight.copy_(torch.stack([blue, green, red]))
        head_of(network).bias.copy_(torch.tensor([0.0, 0.0, 1.0 - weight]))
    return _published(root, "mean_colour", network, CLASSES)


def head_of(network: nn.Module) -> nn.Linear:
    """The last layer of a network of ours."""
    head = network.get_submodule("fc")
    assert isinstance(head, nn.Linear)
    return head


def _published(root: Store, name: str, network: nn.Module, classes: tuple[str, ...]) -> Output:
    data = save_weights(network, Description(name, classes, Inputs(size=16, resize=16)))
    digest = contract.bytes_digest(data)
    store = open_store(f"{root.uri}/train/{digest}")
    store.replace(WEIGHTS, data)
    extra = {"classes": list(classes), "weights": digest}
    receipt = Receipt(WEIGHTS, 0, 0, 0, digest)
    return contract.publish(store, Manifest("train", digest, {}, {}, [receipt], 0.0, extra))
