"""Optimizers by name, and which parameters decay."""

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from models.optim import (
    OPTIMIZERS,
    Optimizer,
    OptimizerSettings,
    make_optimizer,
    parameter_groups,
)
from models.registry import NETWORKS, build

PLAIN = OptimizerSettings(learning_rate=0.1, momentum=0.9, nesterov=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_decay_and_biases_and_norms_do_not(name: str) -> None:
    with torch.device("meta"):  # the largest would take gigabytes
        network = build(name, 7)
    decayed, others = parameter_groups(network, weight_decay=0.3)
    assert decayed["weight_decay"] == 0.3
    assert others["weight_decay"] == 0.0
    kinds = nn.Conv2d | nn.Conv3d | nn.Linear
    layers = [module.weight for module in network.modules() if isinstance(module, kinds)]
    tokens = list(network.parameters(recurse=False))  # the embeddings of a vision transformer
    assert {id(weight) for weight in layers + tokens} == {id(w) for w in decayed["params"]}
    everything = [id(parameter) for parameter in (*decayed["params"], *others["params"])]
    assert sorted(everything) == sorted(id(parameter) for parameter in network.parameters())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_loss(name: str) -> None:
    torch.manual_seed(0)
    network = build("mean_colour", 2)
    images_BCHW, labels_B = torch.rand(8, 3, 4, 4), torch.arange(8) % 2
    optimizer = make_optimizer(name, PLAIN, parameter_groups(network, weight_decay=0.0))
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(network(images_BCHW), labels_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_its_formula(nesterov: bool) -> None:
    network = nn.Linear(1, 1)
    weight, bias = network.weight.item(), network.bias.item()
    settings = OptimizerSettings(learning_rate=0.1, momentum=0.9, nesterov=nesterov)
    optimizer = make_optimizer("sgd", settings, parameter_groups(network, weight_decay=0.5))
    velocity_weight = velocity_bias = 0.0
    for _ in range(3):
        network.weight.grad, network.bias.grad = torch.full((1, 1), 2.0), torch.full((1,), 2.0)
        optimizer.step()
        gradient = 2 + 0.5 * weight
        velocity_weight = 0.9 * velocity_weight + gradient
        velocity_bias = 0.9 * velocity_bias + 2
        weight -= 0.1 * (gradient + 0.9 * velocity_weight if nesterov else velocity_weight)
        bias -= 0.1 * (2 + 0.9 * velocity_bias if nesterov else velocity_bias)
        assert network.weight.item() == pytest.approx(weight, rel=1e-5)
        assert network.bias.item() == pytest.approx(bias, rel=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_that_of_torch_bit_by_bit(momentum: float, nesterov: bool) -> None:
    networks = [build("small_resnet_8", 3) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    settings = OptimizerSettings(learning_rate=0.1, momentum=momentum, nesterov=nesterov)
    optimizers: list[Any] = [
        make_optimizer("sgd", settings, parameter_groups(networks[0], weight_decay=0.01)),
        torch.optim.SGD(
            parameter_groups(networks[1], weight_decay=0.01),
            lr=0.1,
            momentum=momentum,
            nesterov=nesterov and momentum > 0,
            fused=True,
        ),
    ]
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        images_BCHW = torch.rand(4, 3, 16, 16, generator=generator)
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images_BCHW), torch.arange(4) % 3).backward()
            optimizer.step()
    ours, theirs = (network.state_dict() for network in networks)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_on_from_its_state_bit_by_bit(name: str) -> None:
    whole, resumed = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizers = [make_optimizer(name, PLAIN, parameter_groups(whole, weight_decay=0.1))]

    def step(network: nn.Module, optimizer: Optimizer, seed: int) -> None:
        images_BD = torch.rand(4, 3, generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        network(images_BD).square().sum().backward()
        optimizer.step()

    step(whole, optimizers[0], 0)
    resumed.load_state_dict(whole.state_dict())
    optimizers.append(make_optimizer(name, PLAIN, parameter_groups(resumed, weight_decay=0.1)))
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for network, optimizer in zip((whole, resumed), optimizers, strict=True):
        step(network, optimizer, 1)
    assert torch.equal(whole.weight, resumed.weight)
    other = make_optimizer(name, PLAIN, parameter_groups(nn.Linear(3, 2, bias=False), 0.1))
    with pytest.raises(ValueError, match="zip"):
        other.load_state_dict(optimizers[0].state_dict())


def test_parameter_without_a_gradient_stays() -> None:
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    before = network.bias.clone()
    optimizer = make_optimizer("sgd", PLAIN, parameter_groups(network, weight_decay=0.5))
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert torch.equal(network.bias, before)


def test_training_loads_no_compiler() -> None:
    """It would take 1.6 s of each training process."""
    script = """
import sys, torch
from models.optim import OptimizerSettings, make_optimizer, parameter_groups
network = torch.nn.Linear(2, 2)
settings = OptimizerSettings(learning_rate=0.1, momentum=0.9, nesterov=True)
optimizer = make_optimizer("sgd", settings, parameter_groups(network, weight_decay=0.5))
network(torch.ones(1, 2)).sum().backward()
optimizer.step()
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_nesterov_without_momentum_is_plain_descent() -> None:
    network = nn.Linear(1, 1)
    before = network.weight.item()
    settings = OptimizerSettings(learning_rate=0.1, momentum=0.0, nesterov=True)
    optimizer = make_optimizer("sgd", settings, parameter_groups(network, weight_decay=0.0))
    network.weight.grad, network.bias.grad = torch.ones(1, 1), torch.ones(1)
    optimizer.step()
    assert network.weight.item() == pytest.approx(before - 0.1)


def test_unknown_optimizer_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match="there is no optimizer 'adam'; there are: sgd"):
        make_optimizer("adam", PLAIN, parameter_groups(nn.Linear(1, 1), weight_decay=0.0))
