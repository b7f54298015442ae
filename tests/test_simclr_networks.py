"""SimCLRv2's networks: their sizes, what pads as TensorFlow does, and the projection head."""

from typing import Any

import pytest
import torch

from models.networks.projection import ProjectedNetwork, ProjectionHead
from models.networks.simclr_resnet import Mean2x2, SameMaxPool, SimclrResNet
from models.registry import NETWORKS, build, published_inputs
from models.state_dicts import load_projection, load_published
from tests.builders.named_weights import named_images, named_weights

# Millions of parameters without the head, as google-research/simclr publishes them.
MILLIONS = {
    "50_1x": 24, "50_1x_sk": 35, "50_2x": 94, "50_2x_sk": 140,
    "101_1x": 43, "101_1x_sk": 65, "101_2x": 170, "101_2x_sk": 257,
    "152_1x": 58, "152_1x_sk": 89, "152_2x": 233, "152_2x_sk": 354, "152_3x_sk": 795,
}  # fmt: skip


@pytest.mark.parametrize("size", MILLIONS)
def test_encoder_has_the_published_parameters(size: str) -> None:
    with torch.device("meta"):
        network = build(f"simclr_resnet{size}", 7)
    head = sum(parameter.numel() for parameter in network.head.parameters())
    encoder = sum(parameter.numel() for parameter in network.parameters()) - head
    assert encoder / 1e6 == pytest.approx(MILLIONS[size], abs=0.8)
    assert len(NETWORKS[f"simclr_resnet{size}"].published) == 5


def test_residual_branches_begin_at_zero_and_weights_follow_the_fan_in() -> None:
    torch.manual_seed(0)
    network = SimclrResNet((1, 1, 1, 1), 1, 7, selective=True)
    state = network.state_dict()
    assert not state["layer3.0.bn3.weight"].any()
    weights = state["layer4.0.conv2.conv.weight"]
    assert float(weights.std()) == pytest.approx((512 * 9) ** -0.5, rel=0.01)
    assert float(weights.abs().max()) < 2.3 * (512 * 9) ** -0.5


@pytest.mark.parametrize("side", [6, 7])
def test_largest_pixel_is_padded_as_tensorflow_pads(side: int) -> None:
    """Of an even side, "SAME" pads the end alone; of an odd one, both ends."""
    row = torch.zeros(side).index_fill(0, torch.tensor([2]), 1.0)
    pooled = SameMaxPool()(row.expand(1, 1, side, side))[0, 0, 0]
    # Windows begin at 0, 2, 4 for an even side, and at -1, 1, 3, 5 for an odd one.
    assert pooled.tolist() == ([1, 1, 0] if side == 6 else [0, 1, 0, 0])


def test_mean_at_the_edge_is_that_of_the_pixels_there() -> None:
    image = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    assert Mean2x2(1)(image).tolist() == [[[[4.0, 5.0], [6.0, 7.0]]]]
    assert Mean2x2(2)(image).tolist() == [[[[4.0]]]]


def converted_head(width: int) -> dict[str, Any]:
    """A file of SimCLRv2-Pytorch: layers without bias, and a norm behind each, with a shift."""
    outputs = {0: width, 3: width, 6: 128}
    head = {f"layers.{number}.weight": torch.rand(size, width) for number, size in outputs.items()}
    for number, size in outputs.items():
        norm = f"layers.{number + 1}"
        shift = torch.zeros(size) if number == 6 else torch.rand(size)
        head |= {f"{norm}.weight": torch.rand(size), f"{norm}.bias": shift}
        head |= {f"{norm}.running_mean": torch.rand(size), f"{norm}.running_var": torch.rand(size)}
        head[f"{norm}.num_batches_tracked"] = torch.tensor(3)
    return {"resnet": {"fc.weight": torch.rand(1000, width)}, "head": head}


def test_published_projection_head_loads_without_the_shift_that_it_has_not() -> None:
    content = converted_head(32)
    head = ProjectionHead(32).eval()
    load_projection(head, content)
    weights = content["head"]
    assert set(weights) - set(head.state_dict()) == {"layers.7.bias"}
    for key, tensor in head.state_dict().items():
        assert torch.equal(tensor, weights[key]), key
    assert head(torch.rand(4, 32)).shape == (4, 128)


def test_network_loads_from_beside_its_projection_head() -> None:
    network = build("small_resnet_8", 3)
    content = {"resnet": network.state_dict(), "head": converted_head(32)["head"]}
    assert load_published(build("small_resnet_8", 3), content) == [
        "the weights were under 'resnet'"
    ]


def test_projection_head_that_does_not_fit_is_refused() -> None:
    content = converted_head(32)
    with pytest.raises(ValueError, match="choose the model that this head was trained with"):
        load_projection(ProjectionHead(64), content)
    content["head"]["layers.7.bias"] += 1
    with pytest.raises(ValueError, match=r"unknown to the network \(layers.7.bias\)"):
        load_projection(ProjectionHead(32), content)
    with pytest.raises(ValueError, match="has no projection head"):
        load_projection(ProjectionHead(32), content["resnet"])


def test_projection_head_has_mean_zero_and_no_bias() -> None:
    torch.manual_seed(0)
    head = ProjectionHead(16, outputs=8)
    projected = head(torch.rand(64, 16))
    assert torch.allclose(projected.mean(0), torch.zeros(8), atol=1e-5)
    assert [key for key in head.state_dict() if key.endswith("bias")] == [
        "layers.1.bias",
        "layers.4.bias",
    ]


@torch.inference_mode()
def test_fine_tuning_begins_behind_the_first_layer_of_the_projection_head() -> None:
    head, encoder = ProjectionHead(32).eval(), build("small_resnet_8", 3).eval()
    head.load_state_dict(named_weights(head.state_dict(), gain=1))
    images = named_images(2, 3, 32, 32)
    expected = head.layers[:3](encoder.features(images))
    network = ProjectedNetwork(encoder, num_classes=5).eval()
    network.start_from(head.state_dict())
    assert torch.equal(network.features(images), expected)
    assert expected.min() >= 0
    assert network(images).shape == (2, 5)
    assert not [key for key in network.state_dict() if key.startswith("network.fc")]


@pytest.mark.parametrize("head", [ProjectionHead(64), ProjectionHead(32, num_layers=1)])
def test_first_layer_that_does_not_fit_is_refused(head: ProjectionHead) -> None:
    network = ProjectedNetwork(build("small_resnet_8", 3), num_classes=5)
    with pytest.raises(ValueError, match="first layer of the projection head does not fit"):
        network.start_from(head.state_dict())


def test_network_with_a_projection_is_built_by_its_name() -> None:
    network = build("small_resnet_8+projection", 4)
    assert isinstance(network, ProjectedNetwork)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, 4)
    assert published_inputs("resnet50+projection") == published_inputs("resnet50")
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        build("resnet5O+projection", 4)
    with pytest.raises(ValueError, match="onnx file has no features"):
        build("onnx+projection", 4)
