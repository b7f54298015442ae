"""Optimizers by name, and which parameters decay."""

import pytest
import torch
from torch import nn

from models.optim import OPTIMIZERS, OptimizerSettings, make_optimizer, parameter_groups
from models.registry import NETWORKS, build

PLAIN = OptimizerSettings(learning_rate=0.1, momentum=0.9, nesterov=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_decay_and_biases_and_norms_do_not(name: str) -> None:
    network = build(name, 7)
    decayed, others = parameter_groups(network, weight_decay=0.3)
    assert decayed["weight_decay"] == 0.3
    assert others["weight_decay"] == 0.0
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert {id(layer.weight) for layer in layers} == {id(weight) for weight in decayed["params"]}
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
