"""State dicts: published weights, renamed for our networks and loaded strictly.

    notes = load_published(network, torch.load("resnet50.pth", weights_only=True))

In: the content of a file of weights: tensors by key, perhaps in an envelope. Out: the network, with
these weights, and where they were in the file. Publishers use different keys for the same tensor;
`models/key_maps.py` says how the keys of each become ours. Of all maps the best fitting is used.
Then every tensor of the network and of the file must fit, or an error says which do not, and what
to do.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from models.key_maps import KEY_MAPS
from models.network import Network
from models.networks.resnet import ResNet

# Training scripts save an optimizer and an epoch beside the weights, which are then under one of
# these keys. Of several, the first is taken: an average (EMA) is what accuracies are published of.
ENVELOPES = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "weights",
    "params",
    "resnet",  # SimCLRv2-Pytorch, beside its "head"
    "classy_state_dict",
    "base_model",
)
MAX_ENVELOPES = 3  # one inside the other
# VISSL keeps features and heads apart, with names that begin anew in each.
PARTS = ("trunk", "heads")

# A counter of batch norms that torch did not save before version 0.4.1; it changes no logits.
OPTIONAL = re.compile(r"(^|\.)num_batches_tracked$")

MAX_NAMED = 3  # keys of each kind in an error, because a wrong network differs in hundreds

# Networks of timm that pool before they halve the resolution. Such layers have no weights, so the
# keys and shapes are those of a ResNet without them, which would give other logits in silence.
ANTI_ALIASED = re.compile(r"resnet(aa|blur)\d+[a-z]*$")


@dataclass(frozen=True)
class Differences:
    """The keys at which weights do not fit a network."""

    missing: Sequence[str]
    unexpected: Sequence[str]
    misshaped: Sequence[str]

    @property
    def count(self) -> int:
        """Number of keys."""
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)


class OtherClasses(ValueError):
    """The weights are those of the network, but for the number of its classes."""


def load_published(network: Network, content: object, *, keep_head: bool = True) -> list[str]:
    """Load the content of a file of weights, strictly.

    Without `keep_head`, the head of the network stays as it is, and the file may have any or none.
    Returns where in the file the weights were, in sentences. Raises ValueError, with the keys that
    do not fit and the remedy, for weights of another network.
    """
    _refuse_anti_aliased(network, content)
    envelopes, weights = _open_envelopes(content)
    head = set() if keep_head else _head_keys(network)
    own = {key: tensor for key, tensor in network.state_dict().items() if key not in head}
    # (tensors by key, the prefix that all keys had), by publisher.
    renamed = [_strip_prefix(_rename(weights, rules), own) for rules in KEY_MAPS.values()]
    # Rules of another publisher may give two tensors the same key, and one would be lost.
    candidates = [
        ({key: tensor for key, tensor in candidate.items() if key not in head}, prefix)
        for candidate, prefix in renamed
        if len(candidate) == len(weights)
    ]
    best, prefix = min(candidates, key=lambda candidate: _differences(candidate[0], own).count)
    differences = _differences(best, own)
    if differences.count:
        raise _misfit(differences, best, network)
    network.load_state_dict(best, strict=False)
    notes = [f"the weights were under {' / '.join(map(repr, envelopes))}"] if envelopes else []
    return notes + ([f"all their keys began with {prefix!r}"] if prefix else [])


def _head_keys(network: Network) -> set[str]:
    head = {id(parameter) for parameter in network.head.parameters()}
    own = network.state_dict(keep_vars=True)
    return {key for key, tensor in own.items() if id(tensor) in head}


def load_projection(head: nn.Module, content: object) -> None:
    """Load the projection head out of a file of SimCLRv2-Pytorch, strictly.

    The converter has a shift in the last batch norm, where the original has none; it must be zero.
    Raises ValueError for a file without a head, and for one that does not fit.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("head"), Mapping):
        raise ValueError(
            "the file has no projection head; take one that SimCLRv2-Pytorch has converted from "
            "pretrained weights"
        )
    weights, own = dict(content["head"]), head.state_dict()
    surplus = [key for key in weights if key not in own and not weights[key].any()]
    for key in surplus:
        del weights[key]
    differences = _differences(weights, own)
    if differences.count:
        raise ValueError(
            f"{_describe(differences, weights, own)}; choose the model that this head was trained "
            "with"
        )
    head.load_state_dict(weights)


def _open_envelopes(content: object) -> tuple[list[str], dict[str, Tensor]]:
    """The tensors in the content of a file, and the keys that they were under."""
    envelopes: list[str] = []
    while isinstance(content, Mapping) and len(envelopes) < MAX_ENVELOPES:
        inner = next((key for key in ENVELOPES if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        envelopes.append(inner)
        content = content[inner]
    content = _join_parts(content)
    named: Mapping[Any, Any] = content if isinstance(content, Mapping) else {}
    others = [str(key) for key, value in named.items() if not isinstance(value, Tensor)]
    if others or not named:
        found = _first(others) or f"an empty {type(content).__name__}"
        found = found if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ValueError(
            f"a file of weights must hold tensors by name, and this one holds {found}; save the "
            "network's state_dict() alone or under the key 'state_dict'"
        )
    return envelopes, {str(key): tensor for key, tensor in named.items()}


def _join_parts(content: object) -> object:
    """The tensors of both parts of VISSL by one name each; anything else as it is."""
    if not isinstance(content, Mapping) or set(content) != set(PARTS):
        return content
    parts = [content[part] for part in PARTS]
    if not all(isinstance(part, Mapping) for part in parts):
        return content
    return {f"{part}.{key}": content[part][key] for part in PARTS for key in content[part]}


def _refuse_anti_aliased(network: Network, content: object) -> None:
    """Raise ValueError for a file that says that it is of a network with the same keys only."""
    name = content.get("arch") if isinstance(content, Mapping) else None
    if isinstance(network, ResNet) and isinstance(name, str) and ANTI_ALIASED.match(name):
        raise ValueError(
            f"the weights are of {name}, whose keys are the same but which pools before it halves "
            f"the resolution; choose the model timm/{name}"
        )


def _strip_prefix(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], str]:
    """The weights without what all keys begin with, as wrapped networks save them."""
    own_steps, prefix = {key.partition(".")[0] for key in own}, ""
    stripped = dict(weights)
    while True:
        steps = {key.partition(".")[0] for key in stripped}
        step = next(iter(steps))
        if len(steps) > 1 or step in own_steps or step in stripped:
            return stripped, prefix
        prefix += f"{step}."
        stripped = {key.partition(".")[2]: tensor for key, tensor in stripped.items()}


def _rename(weights: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    renamed = {}
    for key, tensor in weights.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = tensor
    return renamed


def _differences(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Differences:
    return Differences(
        missing=[key for key in own if key not in weights and not OPTIONAL.search(key)],
        unexpected=[key for key in weights if key not in own],
        misshaped=[key for key in own if key in weights and weights[key].shape != own[key].shape],
    )


def _describe(
    differences: Differences, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> str:
    shapes = [
        f"{key} is {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
        for key in differences.misshaped
    ]
    kinds = (
        ("missing", differences.missing),
        ("unknown to the network", differences.unexpected),
        ("of another shape", shapes),
    )
    return ", ".join(f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds if keys)


def _misfit(
    differences: Differences, weights: Mapping[str, Tensor], network: Network
) -> ValueError:
    """What to raise, with the remedy."""
    text = _describe(differences, weights, network.state_dict())
    others = set(differences.misshaped) - _head_keys(network)
    if others or differences.missing or differences.unexpected:
        return ValueError(f"{text}; choose the model that these weights were saved from")
    return OtherClasses(
        f"{text}; the weights are for another number of classes than {network.head.out_features}: "
        "take images with the classes of the weights, or another head: start.head=new or linear"
    )


def _first(keys: Sequence[str]) -> str:
    return ", ".join(keys[:MAX_NAMED]) + (", ..." if len(keys) > MAX_NAMED else "")
