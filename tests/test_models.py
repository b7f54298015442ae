"""Networks: torchvision's keys and sizes, names with a remedy, the average, the augmentation."""

import subprocess
import sys

import pytest
import torch

from models.augment import Augmentation, augment, mixup
from models.ema import Ema
from models.registry import NETWORKS, build, check_name
from tests.builders.macs import count_gmacs, input_shape
from tests.builders.models import head_of

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
        shape = input_shape(name)
        assert network.features(torch.rand(shape)).shape == (1, network.head.in_features)


@pytest.mark.parametrize("name", NETWORKS)
def test_record_counts_the_multiply_adds(name: str) -> None:
    assert count_gmacs(name) == pytest.approx(NETWORKS[name].gmacs, rel=5e-4)


# What torchvision publishes of its own implementations, as `_ops` of its weights.
@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("resnet18", 1.814),
        ("resnet34", 3.664),
        ("resnet50", 4.089),
        ("resnet101", 7.801),
        ("resnet152", 11.514),
        ("resnext50_32x4d", 4.230),
        ("resnext101_32x8d", 16.414),
        ("efficientnet_b0", 0.386),
        ("efficientnet_b1", 0.687),
        ("efficientnet_b3", 1.827),
        ("efficientnet_b4", 4.394),
        ("efficientnet_b5", 10.266),
        ("efficientnet_b6", 19.068),
        ("efficientnet_b7", 37.746),
        ("vit_base_patch16", 17.564),
        ("r2plus1d_18", 40.519),
    ],
)
def test_multiply_adds_are_the_published_ones(name: str, gmacs: float) -> None:
    assert NETWORKS[name].gmacs == pytest.approx(gmacs, abs=1e-3)


def test_inputs_are_scaled_as_they_were_published() -> None:
    resized = {name: NETWORKS[name].inputs.resize for name in NETWORKS}
    assert resized["resnet50"] == 256
    assert resized["efficientnet_b4"] == 412
    assert resized["efficientnet_l2"] == 833
    for record in NETWORKS.values():
        assert 0.8 < record.inputs.crop <= 1
        assert len(record.inputs.mean) == len(record.inputs.std) == 3


def test_best_weights_are_those_of_the_method_or_without_it() -> None:
    record = NETWORKS["resnet50"]
    plain, best = record.best(supervised=True), record.best(supervised=False)
    assert plain is not None
    assert best is not None
    assert (plain.top1, best.top1) == (76.156, 81.146)
    assert best.method == "semi-weakly supervised"
    assert NETWORKS["efficientnet_l2"].best(supervised=True) is None


def test_records_say_where_their_figures_are_from() -> None:
    for record in NETWORKS.values():
        for published in record.published:
            assert 0 < published.top1 < (published.top5 or 100) <= 100
            assert published.source
        weights = [(published.weights, published.method) for published in record.published]
        assert len(weights) == len(set(weights)), record.name


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
    with pytest.raises(ValueError, match="did you mean 'resnet50' or "):
        check_name("resnet5O")
    with pytest.raises(ValueError, match="`protege models` lists them"):
        check_name("?")


def test_average_forgets_the_start_and_follows_the_weights() -> None:
    network = build("mean_colour", 2)
    ema = Ema(network, decay=0.9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(3.0)
    for num_updates in range(100):
        ema.update(network, num_updates)
    averaged, last = head_of(ema.network), head_of(network)
    assert torch.allclose(averaged.weight, last.weight, atol=1e-3)


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
