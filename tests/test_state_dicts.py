"""Published weights: their keys and shapes, their wrappers, and errors that say what to do."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models.key_maps import KEY_MAPS
from models.network import Network
from models.registry import build
from models.state_dicts import load_published

Weights = dict[str, Tensor]


def batch_norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{vector}": (channels,) for vector in vectors} | {
        f"{name}.num_batches_tracked": ()
    }


def torchvision_shapes(depths: tuple[int, ...], expansion: int) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of resnet18 (expansion 1) and resnet50 (4) as torchvision saves them."""
    shapes = {"conv1.weight": (64, 3, 7, 7), **batch_norm("bn1", 64)}
    inputs = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        outputs = width * expansion
        for index in range(depth):
            block = f"layer{stage + 1}.{index}"
            if expansion == 1:
                convolutions = [(width, inputs, 3, 3), (width, width, 3, 3)]
            else:
                convolutions = [(width, inputs, 1, 1), (width, width, 3, 3), (outputs, width, 1, 1)]
            for number, shape in enumerate(convolutions, start=1):
                shapes[f"{block}.conv{number}.weight"] = shape
                shapes |= batch_norm(f"{block}.bn{number}", shape[0])
            if index == 0 and inputs != outputs:
                shapes[f"{block}.downsample.0.weight"] = (outputs, inputs, 1, 1)
                shapes |= batch_norm(f"{block}.downsample.1", outputs)
            inputs = outputs
    return {**shapes, "fc.weight": (1000, inputs), "fc.bias": (1000,)}


def published(depths: tuple[int, ...] = (2, 2, 2, 2), expansion: int = 1) -> Weights:
    return {
        key: torch.rand(shape) if shape else torch.tensor(7)
        for key, shape in torchvision_shapes(depths, expansion).items()
    }


def assert_same(network: Network, weights: Weights) -> None:
    state = network.state_dict()
    assert set(state) == set(weights)
    for key, tensor in state.items():
        assert torch.equal(tensor, weights[key]), key


def test_weights_of_resnet50_load_as_torchvision_publishes_them() -> None:
    weights = published((3, 4, 6, 3), expansion=4)
    network = build("resnet50", 1000)
    load_published(network, weights)
    assert_same(network, weights)


WRAPPINGS: dict[str, Callable[[Weights], Any]] = {
    "plain": lambda weights: weights,
    "wrapped": lambda weights: {"state_dict": weights, "epoch": 90, "optimizer": {}},
    "data_parallel": lambda weights: {f"module.{key}": weights[key] for key in weights},
    "wrapped_data_parallel": lambda weights: {
        "state_dict": {f"module.{key}": weights[key] for key in weights},
        "arch": "resnet18",
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_weights_load_out_of_wrappers_and_from_under_prefixes(wrapping: str) -> None:
    weights = published()
    network = build("resnet18", 1000)
    load_published(network, WRAPPINGS[wrapping](weights))
    assert_same(network, weights)


def test_weights_that_old_torch_saved_without_counters_load() -> None:
    weights = {key: w for key, w in published().items() if "num_batches_tracked" not in key}
    assert len(weights) == 102  # as in torchvision's resnet18-5c106cde.pth
    network = build("resnet18", 1000)
    load_published(network, weights)
    state = network.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in weights.items())


def test_keys_of_another_publisher_are_renamed_by_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ((r"^trunk\.", ""), (r"^clf\.", "fc."), (r"\.kernel$", ".weight"))
    monkeypatch.setitem(KEY_MAPS, "a publisher", rules)
    weights = published()
    theirs = {
        key.replace("fc.", "clf.") if key.startswith("fc.") else f"trunk.{key}": tensor
        for key, tensor in weights.items()
    }
    theirs["trunk.conv1.kernel"] = theirs.pop("trunk.conv1.weight")
    network = build("resnet18", 1000)
    load_published(network, theirs)
    assert_same(network, weights)


def prefixed(prefix: str, weights: Weights) -> Weights:
    return {f"{prefix}{key}": tensor for key, tensor in weights.items()}


def as_vissl_saves(weights: Weights, head: str = "0.clf.0.") -> dict[str, Any]:
    """A checkpoint of VISSL, whose model keeps features (`trunk`) and heads apart."""
    features = {key: tensor for key, tensor in weights.items() if not key.startswith("fc.")}
    heads = {key.replace("fc.", head): weights[key] for key in ("fc.weight", "fc.bias")}
    model = {"trunk": prefixed("_feature_blocks.", features), "heads": heads}
    base_model = {"model": model, "meta": {"trunk": {}, "heads": []}}
    return {
        "classy_state_dict": {"base_model": base_model, "optimizer": {"lr": 0.1}, "phase_idx": 90},
        "type": "consolidated",
        "phase_idx": 90,
    }


def test_weights_that_vissl_has_converted_load() -> None:
    # As converted_vissl_rn50_semi_sup_08389792.torch of its model zoo.
    weights = published((3, 4, 6, 3), expansion=4)
    network = build("resnet50", 1000)
    load_published(network, {"model_state_dict": prefixed("_feature_blocks.", weights)})
    assert_same(network, weights)


def test_checkpoint_of_a_classifier_that_vissl_has_trained_loads() -> None:
    weights = published()
    network = build("resnet18", 1000)
    notes = load_published(network, as_vissl_saves(weights))
    assert_same(network, weights)
    assert notes == ["the weights were under 'classy_state_dict' / 'base_model' / 'model'"]


@pytest.mark.parametrize("head", ["0.clf.2.", "0.prototypes0.", "1.clf.0."])
def test_checkpoint_of_vissl_with_another_head_is_refused(head: str) -> None:
    error = error_of(build("resnet18", 1000), as_vissl_saves(published(), head))
    assert "2 missing (fc.weight, fc.bias)" in error
    assert f"2 unknown to the network (heads.{head}weight, heads.{head}bias)" in error


def test_checkpoint_of_vissl_without_heads_names_what_is_missing() -> None:
    checkpoint = as_vissl_saves(published())
    checkpoint["classy_state_dict"]["base_model"]["model"]["heads"] = {}
    error = error_of(build("resnet18", 1000), checkpoint)
    assert error.startswith("2 missing (fc.weight, fc.bias); ")


def test_average_pool_before_a_shortcut_is_no_shortcut_of_ours() -> None:
    """As timm's resnet18d, but for its stem: a pooling without weights moves the indices by one."""
    theirs = {
        re.sub(r"downsample\.([01])", lambda found: f"downsample.{int(found[1]) + 1}", key): tensor
        for key, tensor in published().items()
    }
    error = error_of(build("resnet18", 1000), theirs)
    assert "missing (layer2.0.downsample.0.weight" in error
    assert "unknown to the network (layer2.0.downsample.2.weight" in error


def test_stem_of_three_convolutions_is_no_stem_of_ours() -> None:
    """As timm's resnet18c: `conv1` is three convolutions with norms between them."""
    theirs = published()
    del theirs["conv1.weight"]
    theirs |= {
        "conv1.0.weight": torch.zeros(32, 3, 3, 3),
        "conv1.3.weight": torch.zeros(32, 32, 3, 3),
        "conv1.6.weight": torch.zeros(64, 32, 3, 3),
    }
    theirs |= {key: torch.zeros(shape) for key, shape in batch_norm("conv1.1", 32).items()}
    theirs |= {key: torch.zeros(shape) for key, shape in batch_norm("conv1.4", 32).items()}
    error = error_of(build("resnet18", 1000), theirs)
    assert "1 missing (conv1.weight), 13 unknown to the network (conv1.0.weight, " in error


@pytest.mark.parametrize("name", ["resnetaa50", "resnetblur18", "resnetblur50"])
def test_network_of_the_same_keys_that_computes_otherwise_is_refused(name: str) -> None:
    """Found by comparing the keys and shapes of all ResNets and ResNeXts of timm 1.0.31 with ours.

    The poolings of these have no weights, so that only the name in the checkpoint gives them away.
    """
    error = error_of(build("resnet18", 1000), {"arch": name, "state_dict": published()})
    assert error.endswith(f"choose the model timm/{name}")


def error_of(network: Network, content: object) -> str:
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r".; (choose|the weights|save)") as caught:
        load_published(network, content)
    assert_same(network, before)
    return str(caught.value)


def test_missing_unknown_and_misshaped_weights_are_named_with_the_remedy() -> None:
    weights = published()
    del weights["layer4.1.bn2.running_var"]
    weights["layer9.0.conv1.weight"] = torch.zeros(1)
    weights["conv1.weight"] = torch.zeros(64, 3, 3, 3)
    assert error_of(build("resnet18", 1000), weights) == (
        "1 missing (layer4.1.bn2.running_var), 1 unknown to the network (layer9.0.conv1.weight), "
        "1 of another shape (conv1.weight is (64, 3, 3, 3) instead of (64, 3, 7, 7)); choose the "
        "model that these weights were saved from"
    )


def test_weights_of_another_network_name_a_few_keys_of_hundreds() -> None:
    error = error_of(build("resnet50", 1000), published())
    assert "165 missing (layer1.0.conv3.weight, " in error
    assert ", ...)" in error
    assert len(error) < 600


def test_weights_for_other_classes_say_that_only_the_head_differs() -> None:
    assert error_of(build("resnet18", 7), published()) == (
        "2 of another shape (fc.weight is (1000, 512) instead of (7, 512), fc.bias is (1000,) "
        "instead of (7,)); the weights are for another number of classes than 7: take images with "
        "the classes of the weights, or another head: start.head=new or linear"
    )


def test_prefix_that_would_hide_one_of_two_weights_is_refused() -> None:
    weights = published()
    weights["module.fc.bias"] = torch.zeros(1000)
    assert "1 unknown to the network (module.fc.bias)" in error_of(build("resnet18", 1000), weights)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"epoch": 3, "trunk": {"fc.bias": torch.zeros(7)}}, "this one holds epoch, trunk"),
        ({"state_dict": {"fc.bias": [0.0]}}, "this one holds fc.bias"),
        ([torch.zeros(7)], "this one holds a list"),
    ],
)
def test_file_without_weights_by_name_says_what_to_save(content: object, found: str) -> None:
    error = error_of(build("mean_colour", 7), content)
    assert found in error
    assert "save the network's state_dict() alone or under the key 'state_dict'" in error
