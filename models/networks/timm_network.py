"""Networks of the package timm, with its own names of weights, as a `Network`.

In: images_BCHW. Out: logits_BC. timm computes the features, pooling and dropout included; `Network`
computes the head, so that it is in float32 here as well. timm is optional, because it needs
torchvision, which the CPU build of torch lacks.
"""

import math
from collections.abc import MutableMapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from models.network import Network
from models.records import PublishedInputs

CHILD = "timm_model"


class TimmNetwork(Network):
    """A network that timm builds, without pretrained weights.

    Its state dict has timm's keys, so that weights load that were published for timm.
    """

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        self.timm_model: Any = timm.create_model(name, num_classes=num_classes)
        if not self._is_features_and_head():
            raise ValueError(
                f"the logits of timm/{name} are not one linear layer of its features, as those of "
                "every network here must be: take another model"
            )
        # torch declares no types for these two.
        self.register_state_dict_post_hook(_remove_child_name)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_add_child_name)  # type: ignore[no-untyped-call]

    @property
    def head(self) -> nn.Linear:
        """The layer that timm calls the classifier."""
        head: nn.Linear = self.timm_model.get_classifier()
        return head

    def features(self, images_BCHW: Tensor) -> Tensor:
        """What timm feeds to its classifier, shape (B, D)."""
        maps_BCHW = self.timm_model.forward_features(images_BCHW)
        features_BD: Tensor = self.timm_model.forward_head(maps_BCHW, pre_logits=True)
        return features_BD

    def _is_features_and_head(self) -> bool:
        """Whether timm computes the logits of an image by its classifier on our features alone.

        A few models do not, and would otherwise give other logits than timm's in silence.
        """
        classifier = self.timm_model.get_classifier()
        if not isinstance(classifier, nn.Linear):
            return False
        calls: list[tuple[Tensor, Tensor]] = []
        hook = classifier.register_forward_hook(
            lambda _, inputs, output: calls.append((inputs[0], output))
        )
        shape = self.timm_model.default_cfg["input_size"]
        # Not random, because building a network must draw nothing but its initial weights.
        image_1CHW = torch.linspace(0, 1, math.prod(shape)).view(1, *shape)
        self.eval()
        with torch.inference_mode():
            logits_1C = self.timm_model(image_1CHW)
            features_1D = self.features(image_1CHW)
        self.train()
        hook.remove()
        [(inputs_1D, outputs_1C)] = calls
        return torch.equal(inputs_1D, features_1D) and torch.equal(outputs_1C, logits_1C)

    def _replace_head(self, num_classes: int) -> None:
        old = self.head.weight
        self.timm_model.reset_classifier(num_classes)
        self.head.to(old.device, old.dtype)


def timm_inputs(name: str) -> PublishedInputs:
    """The inputs that timm's weights of this name expect. Raises ValueError for an unknown name."""
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        raise ValueError(f"timm knows no weights {name!r}: {error}") from error
    return PublishedInputs(
        size=config.input_size[-1],
        crop=config.crop_pct,
        interpolation=config.interpolation,
        mean=tuple(config.mean),
        std=tuple(config.std),
    )


def _remove_child_name(
    module: nn.Module, state: MutableMapping[str, Any], prefix: str, metadata: object
) -> None:
    """Give the tensors of a state dict timm's own names."""
    child = f"{prefix}{CHILD}."
    for key in [key for key in state if key.startswith(child)]:
        state[prefix + key.removeprefix(child)] = state.pop(key)


def _add_child_name(
    module: nn.Module, state: MutableMapping[str, Any], prefix: str, *rest: object
) -> None:
    """Give tensors with timm's names the names that this module has for them."""
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}{CHILD}.{key.removeprefix(prefix)}"] = state.pop(key)
