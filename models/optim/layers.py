"""Layers: the parameters of a network in groups, from its input up to its head.

    for parameters in layer_groups(network): ...
    freeze_layers(network, 2)
    set_training(network)

Learning rates by layer, and layers that are not trained, are counted in these groups.
"""

from torch import nn

from models.network import Network

BLOCKS = "blocks"  # what most networks call a container of their blocks or stages


def layer_groups(network: nn.Module) -> list[list[nn.Parameter]]:
    """A group for each stage or block, in the order in which they are registered; the head is last.

    A child of the network is a group, and a container called `blocks` a group for each of its
    children. What belongs to no layer, as a class token, is in the first group, and a norm in the
    group before it. Every parameter is in exactly one group, and no group is empty.
    """
    head = network.head if isinstance(network, Network) and network.has_head else None
    layers = _layers(network, head)
    if head is not None:
        # First to be seen, lest a layer that shares a weight with the head claims it.
        layers.insert(0, list(head.parameters()))
    seen: set[int] = set()
    groups = []
    for layer in layers:
        new = [parameter for parameter in layer if id(parameter) not in seen]
        seen.update(map(id, new))
        groups.append(list(dict.fromkeys(new)))
    if head is not None:
        groups.append(groups.pop(0))
    return [group for group in groups if group]


def freeze_layers(network: nn.Module, count: int) -> None:
    """Let the first layers keep their weights. Raises ValueError when no layer would be left."""
    groups = layer_groups(network)
    if count >= len(groups):
        raise ValueError(f"the network has {len(groups)} layers, and {count} would be frozen")
    for parameters in groups[:count]:
        for parameter in parameters:
            parameter.requires_grad_(False)


def set_training(network: nn.Module) -> None:
    """Training mode, but for the norms of frozen layers, whose statistics stay as they are."""
    network.train()
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own and _is_norm(module) and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _layers(module: nn.Module, head: nn.Module | None) -> list[list[nn.Parameter]]:
    """The layers below the head, as lists of parameters."""
    layers: list[list[nn.Parameter]] = []
    for name, child in module.named_children():
        parameters = list(child.parameters())
        if child is head or not parameters:
            continue
        # What holds the head is a network in a wrapper, and no layer.
        holds_head = any(inner is head for inner in child.modules())
        if name == BLOCKS or holds_head or isinstance(child, Network):
            layers += _layers(child, head)
        elif layers and _is_norm(child):
            layers[-1] += parameters
        else:
            layers.append(parameters)
    own = list(module.parameters(recurse=False))
    return [own + (layers[0] if layers else []), *layers[1:]] if own else layers


def _is_norm(module: nn.Module) -> bool:
    vectors = all(parameter.ndim <= 1 for parameter in module.parameters())
    return vectors and not list(module.children())
