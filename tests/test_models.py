"""Networks: torchvision's keys and sizes, names with a remedy, the average, the augmentation."""

import subprocess
import sys

import pytest
import torch

from models.augment import Augmentation, augment, mixup
from models.registry import NETWORKS, build, check_name

OFF = Augmentation(False, 0, 0, 0, 0, 0, 0)


LARGE = 30_000_000  # parameters; above, the layers are built without memory for their weights


def small_networks() -> list[str]:
    return [name for name, record in NETWORKS.items() if record.num_parameters < LARGE]


@pytest.mark.parametrize("name", small_networks())
def test_every_name_builds_and_gives_logits_of_each_class(name: str) -> None:
    network = build(name, num_classes=7).eval()
    with torch.inference_mode():
        assert network(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", NETWORKS)
def test_record_counts_the_parameters_and_its_input_size_fits(name: str) -> None:
    record = NETWORKS[name]
    with torch.device("meta"):
        network = build(name, num_classes=1000).eval()
        parameters = network.parameters()
        assert sum(parameter.numel() for parameter in parameters) == record.num_parameters
        images_BCHW = torch.rand(1, 3, record.input_size, record.input_size)
        assert network.features(images_BCHW).shape == (1, network.head.in_features)


def test_records_say_where_their_figures_are_from() -> None:
    for record in NETWORKS.values():
        for published in record.published:
            assert 0 < published.top1 < published.top5 < 100
            assert published.weights.startswith(record.name)
            assert published.source


def test_names_are_checked_without_torch() -> None:
    code = "import sys; from models.registry import check_name; check_name('resnet50')"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize(
    ("name", "parameters", "tensors"),
    [("resnet18", 11_689_512, 122), ("resnet50", 25_557_032, 320)],
)
def test_resnet_has_the_parameters_and_keys_of_torchvision(
    name: str, parameters: int, tensors: int
) -> None:
    network = build(name, 1000)
    state = network.state_dict()
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert len(state) == tensors
    expected = {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.conv1.weight",
        "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.running_var",
        "layer4.1.bn2.num_batches_tracked",
        "fc.weight",
        "fc.bias",
    }
    assert expected <= set(state)
    assert state["conv1.weight"].shape == (64, 3, 7, 7)


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        check_name("resnet5O")


def test_augment_switched_off_changes_nothing() -> None:
    images = torch.rand(4, 3, 12, 12)
    assert torch.equal(augment(images, OFF), images)


def test_augment_is_decided_by_the_seed_and_keeps_shape_and_range() -> None:
    strong = Augmentation(True, 30, 0.2, 0.3, 0.3, 0.1, 0.4)
    images = torch.rand(16, 3, 20, 24)
    torch.manual_seed(5)
    first = augment(images, strong)
    torch.manual_seed(5)
    second = augment(images, strong)
    assert torch.equal(first, second)
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, images)


def test_mixup_keeps_the_sum_of_every_target() -> None:
    targets = torch.eye(4)[torch.arange(8) % 4]
    images, mixed = mixup(torch.rand(8, 3, 4, 4), targets, alpha=0.4)
    assert images.shape == (8, 3, 4, 4)
    assert torch.allclose(mixed.sum(dim=1), torch.ones(8))
