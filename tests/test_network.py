"""Every network is features and a head: the head in float32, the features as autocast has them."""

import copy
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from models.network import Network
from models.registry import NETWORKS, PublishedInputs, build, published_inputs

TIMM_NAME = "timm/tiny"
# Of every family, because what differs between its sizes does not matter here.
EVERY_NAME = (
    "small_resnet_8",
    "resnet18",
    "resnext50_32x4d",
    "efficientnet_b0",
    "efficientnet_lite0",
    "simclr_resnet50_1x_sk",
    "vit_small_patch16",
    "r2plus1d_18",
    "mean_colour",
    TIMM_NAME,
)


class TimmModel(nn.Module):
    """The interface of a model of timm 1.0: its features are maps until the head pools them."""

    default_cfg: ClassVar = {"input_size": (3, 24, 24)}

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(6, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.dropout(x.mean(dim=(2, 3)))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        self.classifier = nn.Linear(6, num_classes)


class Headless(TimmModel):
    def get_classifier(self) -> nn.Module:
        return nn.Identity()


class NormedAfterFeatures(TimmModel):
    """Like timm's efficientvit_m0: a norm stands between what it calls features and the layer."""

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = x.mean(dim=(2, 3))
        return x if pre_logits else self.classifier(x / (1 + 1e-5) ** 0.5)


class TwoHeads(TimmModel):
    """Like timm's volo_d1_224: a second head is added to the logits."""

    def forward(self, x: Tensor) -> Tensor:
        maps = self.forward_features(x)
        return self.forward_head(maps) + 0.5 * maps.amax()


@pytest.fixture(autouse=True)
def timm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package timm with small networks, whether or not the real one is installed."""
    models = {
        "tiny": TimmModel,
        "headless": Headless,
        "normed": NormedAfterFeatures,
        "two_heads": TwoHeads,
    }

    def create_model(name: str, num_classes: int) -> nn.Module:
        return models[name](num_classes)

    def get_pretrained_cfg(name: str, allow_unregistered: bool) -> SimpleNamespace:
        if name not in models and not allow_unregistered:
            raise RuntimeError("no pretrained cfg registered")
        return SimpleNamespace(
            input_size=(3, 240, 240),
            crop_pct=0.9,
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=[0.2, 0.3, 0.4],
        )

    package = ModuleType("timm")
    vars(package)["create_model"] = create_model
    vars(package)["get_pretrained_cfg"] = get_pretrained_cfg
    monkeypatch.setitem(sys.modules, "timm", package)
    sys.modules.pop("models.networks.timm_network", None)
    yield package
    sys.modules.pop("models.networks.timm_network", None)


def images(name: str, dtype: torch.dtype = torch.float32, count: int = 2) -> Tensor:
    """Images, or clips of four images for a network of videos."""
    is_video = name in NETWORKS and NETWORKS[name].inputs.frames is not None
    shape = (count, 3, 4, 32, 32) if is_video else (count, 3, 32, 32)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def network_of(name: str, num_classes: int = 7) -> Network:
    torch.manual_seed(0)
    return build(name, num_classes).eval()


def test_every_family_is_tested() -> None:
    families = {NETWORKS[name].family for name in EVERY_NAME if name in NETWORKS}
    assert families == {record.family for record in NETWORKS.values()}


@pytest.mark.parametrize("name", EVERY_NAME)
@torch.inference_mode()
def test_logits_are_the_head_of_the_features(name: str) -> None:
    network = network_of(name)
    features_BD = network.features(images(name))
    assert features_BD.shape == (2, network.head.in_features)
    torch.testing.assert_close(network(images(name)), network.head(features_BD))
    assert torch.equal(network(images(name)), network.logits(features_BD))


@pytest.mark.parametrize("name", EVERY_NAME)
@torch.inference_mode()
def test_head_is_in_float32_under_autocast_and_features_are_not(name: str) -> None:
    network = network_of(name)
    with torch.autocast("cpu", torch.bfloat16):
        features_BD = network.features(images(name, torch.bfloat16))
        logits_BC = network(images(name, torch.bfloat16))
        assert features_BD.dtype == torch.bfloat16
        assert logits_BC.dtype == torch.float32
        assert network(images(name)).dtype == torch.float32
        if name != "mean_colour":  # it has no layer that autocast would lower
            assert network.features(images(name)).dtype == torch.bfloat16
    torch.testing.assert_close(logits_BC, network.head(features_BD.float()))


@pytest.mark.parametrize("name", EVERY_NAME)
@torch.inference_mode()
def test_new_head_is_seeded_and_leaves_the_features_and_the_old_network_alone(name: str) -> None:
    network = network_of(name)
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(3)
    expected = nn.Linear(network.head.in_features, 5)
    torch.manual_seed(3)
    other = network.with_new_head(5)
    assert torch.equal(other.head.weight, expected.weight)
    assert torch.equal(other.head.bias, expected.bias)
    assert other(images(name)).shape == (2, 5)
    assert torch.equal(other.features(images(name)), network.features(images(name)))
    assert list(other.state_dict()) == list(before)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key]), key


@pytest.mark.parametrize("name", EVERY_NAME)
@torch.inference_mode()
def test_state_dict_carries_a_network_over(name: str) -> None:
    network = network_of(name)
    torch.manual_seed(9)
    other = build(name, 7).eval()
    assert not torch.equal(other(images(name)), network(images(name)))
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(images(name)), network(images(name)))


@pytest.mark.parametrize("name", EVERY_NAME)
@torch.inference_mode()
def test_features_of_an_image_do_not_depend_on_its_place_in_the_batch(name: str) -> None:
    """Or other shards would choose other images, where two are nearly equal."""
    network, batch = network_of(name), images(name, count=32)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(2))
    assert torch.equal(network.features(batch[order]), network.features(batch)[order])


def test_timm_network_has_the_weights_and_keys_of_timm(timm: ModuleType) -> None:
    network = network_of(TIMM_NAME)
    torch.manual_seed(0)
    original = timm.create_model("tiny", num_classes=7).eval()
    assert list(network.state_dict()) == list(original.state_dict())
    for key, tensor in original.state_dict().items():
        assert torch.equal(network.state_dict()[key], tensor), key
    with torch.inference_mode():
        torch.testing.assert_close(network(images(TIMM_NAME)), original(images(TIMM_NAME)))
    larger = nn.ModuleDict({"encoder": copy.deepcopy(network), "projection": nn.Linear(6, 2)})
    keys = [f"encoder.{key}" for key in original.state_dict()]
    assert list(larger.state_dict()) == [*keys, "projection.weight", "projection.bias"]
    larger.load_state_dict(larger.state_dict())


@pytest.mark.parametrize("name", ["headless", "normed", "two_heads"])
def test_timm_network_that_is_not_features_and_a_linear_head_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"logits of timm/{name} are not one linear layer"):
        build(f"timm/{name}", 7)


def test_building_a_timm_network_draws_its_weights_and_nothing_else(timm: ModuleType) -> None:
    torch.manual_seed(0)
    timm.create_model("tiny", num_classes=7)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    network = build(TIMM_NAME, 7)
    assert torch.equal(torch.get_rng_state(), after)
    assert all(module.training for module in network.modules())
    assert network.state_dict()["bn.num_batches_tracked"] == 0


def test_timm_network_without_timm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"timm/tiny needs timm.*install both"):
        build(TIMM_NAME, 7)


def test_inputs_of_published_weights_are_those_of_timm() -> None:
    inputs = published_inputs(TIMM_NAME)
    assert inputs == PublishedInputs(240, 0.9, "bicubic", (0.5, 0.5, 0.5), (0.2, 0.3, 0.4))
    assert inputs.resize == 266
    assert published_inputs("efficientnet_lite0").mean == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="timm knows no weights 'large'"):
        published_inputs("timm/large")
    with pytest.raises(ValueError, match="there is no model 'small'"):
        published_inputs("small")
