"""Layers of a network, from its input up to its head: every parameter in exactly one group."""

import pytest
import torch
from torch import Tensor, nn

from models.network import Network
from models.optim import layer_groups
from models.registry import NETWORKS, build


class Vit(nn.Module):
    """The structure of timm's vision transformers: tokens, an embedding, blocks, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.patch_embed = nn.Sequential(nn.Conv2d(3, 4, 2))
        self.pos_drop = nn.Dropout(0.1)
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)) for _ in range(3))
        )
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


class Wrapped(Network):
    """A network of another package, one level further down, as `timm/` has it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @property
    def head(self) -> nn.Linear:
        head = self.inner.get_submodule("head")
        assert isinstance(head, nn.Linear)
        return head

    def features(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW


def names(network: nn.Module) -> list[list[str]]:
    """The groups, by the names of the parameters."""
    known = {id(parameter): name for name, parameter in network.named_parameters()}
    return [[known[id(parameter)] for parameter in group] for group in layer_groups(network)]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_is_in_one_group_and_the_head_is_the_last(name: str) -> None:
    with torch.device("meta"):
        network = build(name, 7)
    groups = layer_groups(network)
    assert all(groups)
    everything = [id(parameter) for group in groups for parameter in group]
    assert len(everything) == len(set(everything))
    assert set(everything) == {id(parameter) for parameter in network.parameters()}
    assert {id(parameter) for parameter in groups[-1]} == {
        id(parameter) for parameter in network.head.parameters()
    }


def test_resnet_has_a_group_for_the_stem_and_for_each_stage() -> None:
    with torch.device("meta"):
        groups = names(build("resnet18", 7))
    stages = [{name.split(".")[0] for name in group} for group in groups]
    assert stages == [{"conv1", "bn1"}, {"layer1"}, {"layer2"}, {"layer3"}, {"layer4"}, {"fc"}]


def test_transformer_has_a_group_for_each_block() -> None:
    groups = names(Wrapped(Vit()))
    tops = [[name.removeprefix("inner.") for name in group] for group in groups]
    assert tops[0] == ["cls_token", "pos_embed", "patch_embed.0.weight", "patch_embed.0.bias"]
    assert [{name[:8] for name in group} for group in tops[1:3]] == [{"blocks.0"}, {"blocks.1"}]
    assert {name[:8] for name in tops[3]} == {"blocks.2", "norm.wei", "norm.bia"}
    assert tops[4] == ["head.weight", "head.bias"]
    assert len(tops) == 5


def test_stages_below_blocks_are_groups_and_what_comes_after_them_too() -> None:
    """The structure of timm's EfficientNets."""
    inner = nn.Module()
    inner.conv_stem, inner.bn1 = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    inner.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 1)) for _ in range(2)))
    inner.conv_head, inner.bn2 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
    inner.head = nn.Linear(4, 2)
    groups = names(Wrapped(inner))
    assert [{".".join(name.split(".")[1:3]) for name in group} for group in groups] == [
        {"conv_stem.weight", "conv_stem.bias", "bn1.weight", "bn1.bias"},
        {"blocks.0"},
        {"blocks.1"},
        {"conv_head.weight", "conv_head.bias", "bn2.weight", "bn2.bias"},
        {"head.weight", "head.bias"},
    ]


def test_weight_that_is_shared_is_counted_once_and_with_the_head() -> None:
    vit = Vit()
    vit.blocks.get_submodule("1.1").weight = vit.blocks.get_submodule("0.1").weight
    vit.patch_embed.append(nn.Linear(4, 2))
    vit.patch_embed[1].weight = vit.head.weight
    groups = names(Wrapped(vit))
    flat = [name for group in groups for name in group]
    assert len(flat) == len(set(flat)) == len(list(vit.parameters()))
    assert "inner.blocks.0.1.weight" in groups[1]
    assert len(groups[-1]) == 2
