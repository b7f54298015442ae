"""AdamW, LARS, RMSProp and the clipping of gradients, against their formulas in float64."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from models.optim import (
    OptimizerSettings,
    clip_gradients,
    make_optimizer,
    parameter_groups,
)
from models.registry import build

Array = npt.NDArray[np.float64]
RATES = (0.5, 0.5, 0.1, 0.02)


def settings(momentum: float = 0.9, nesterov: bool = False) -> OptimizerSettings:
    return OptimizerSettings(learning_rate=RATES[0], momentum=momentum, nesterov=nesterov)


def gradients(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(3, 4, generator=generator), torch.randn(3, generator=generator)


def run(name: str, chosen: OptimizerSettings, weight_decay: float) -> Iterator[nn.Linear]:
    """A layer before and after each step, with the rates and gradients above."""
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    optimizer = make_optimizer(name, chosen, parameter_groups(layer, weight_decay))
    yield layer
    for step, rate in enumerate(RATES):
        layer.weight.grad, layer.bias.grad = gradients(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        yield layer


def follows(
    name: str,
    chosen: OptimizerSettings,
    weight_decay: float,
    update: Callable[[Array, Array, float, float, bool], Array],
) -> None:
    """Assert that weights and biases are those of `update(w, g, rate, decay, is_weight)`."""
    layers = run(name, chosen, weight_decay)
    layer = next(layers)
    weight, bias = (tensor.detach().double().numpy().copy() for tensor in layer.parameters())
    for step, rate in enumerate(RATES):
        next(layers)
        weight_gradient, bias_gradient = (part.double().numpy() for part in gradients(step))
        weight = update(weight, weight_gradient, rate, weight_decay, True)
        bias = update(bias, bias_gradient, rate, 0.0, False)
        np.testing.assert_allclose(layer.weight.detach().numpy(), weight, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(layer.bias.detach().numpy(), bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_lars_follows_its_formula(nesterov: bool) -> None:
    velocities: dict[bool, Array] = {}

    def update(w: Array, g: Array, rate: float, decay: float, is_weight: bool) -> Array:
        ratio = 1.0
        if is_weight:
            g = g + decay * w
            ratio = 0.001 * float(np.linalg.norm(w) / np.linalg.norm(g))
        velocity = 0.9 * velocities.get(is_weight, np.zeros_like(w)) + rate * ratio * g
        velocities[is_weight] = velocity
        return w - (0.9 * velocity + rate * ratio * g if nesterov else velocity)

    follows("lars", settings(nesterov=nesterov), 0.1, update)


def test_rmsprop_is_that_of_tensorflow() -> None:
    squares: dict[bool, Array] = {}
    velocities: dict[bool, Array] = {}

    def update(w: Array, g: Array, rate: float, decay: float, is_weight: bool) -> Array:
        g = g + decay * w
        square = 0.9 * squares.get(is_weight, np.ones_like(w)) + 0.1 * g**2
        velocity = 0.9 * velocities.get(is_weight, np.zeros_like(w))
        velocity = velocity + rate * g / np.sqrt(square + 1e-3)
        squares[is_weight], velocities[is_weight] = square, velocity
        return w - velocity

    follows("rmsprop", settings(), 0.1, update)


@pytest.mark.parametrize("beta_1", [0.0, 0.9])
def test_adamw_follows_its_formula(beta_1: float) -> None:
    moments: dict[bool, tuple[Array, Array, int]] = {}

    def update(w: Array, g: Array, rate: float, decay: float, is_weight: bool) -> Array:
        zeros = np.zeros_like(w)
        mean, square, steps = moments.get(is_weight, (zeros, zeros, 0))
        mean, square = beta_1 * mean + (1 - beta_1) * g, 0.999 * square + 0.001 * g**2
        steps += 1
        moments[is_weight] = mean, square, steps
        corrected = mean / (1 - beta_1**steps)
        root = np.sqrt(square / (1 - 0.999**steps)) + 1e-8
        return w - rate * (corrected / root + decay * w)

    follows("adamw", settings(momentum=beta_1), 0.1, update)


def test_adamw_is_that_of_torch_bit_by_bit() -> None:
    networks = [build("small_resnet_8", 3) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    groups = [
        {name: group[name] for name in ("params", "weight_decay")}
        for group in parameter_groups(networks[1], weight_decay=0.01)
    ]
    optimizers: list[Any] = [
        make_optimizer("adamw", settings(), parameter_groups(networks[0], weight_decay=0.01)),
        torch.optim.AdamW(groups, lr=RATES[0], betas=(0.9, 0.999), fused=True),
    ]
    for seed in range(3):
        images_BCHW = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        for network, optimizer in zip(networks, optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images_BCHW), torch.arange(4) % 3).backward()
            optimizer.step()
    ours, theirs = (network.state_dict() for network in networks)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("gradient", [0.0, 1.0])
def test_lars_moves_weights_of_norm_0_at_the_whole_rate(gradient: float) -> None:
    layer = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = make_optimizer("lars", settings(), parameter_groups(layer, weight_decay=0.1))
    layer.weight.grad = torch.full((2, 2), gradient)
    optimizer.step()
    assert torch.equal(layer.weight, torch.full((2, 2), -RATES[0] * gradient))


def test_lars_trains_a_head_that_starts_at_0() -> None:
    """With a rate by its norm, which is nearly 0, it would stay where it is."""
    network = build("mean_colour", 2)
    nn.init.zeros_(network.head.weight)
    optimizer = make_optimizer("lars", settings(), parameter_groups(network, weight_decay=0.1))
    for _ in range(2):
        network.head.weight.grad = torch.ones_like(network.head.weight)
        optimizer.step()
    # Velocities of 1 and 1.9, without decay.
    torch.testing.assert_close(network.head.weight, torch.full((2, 3), -2.9 * RATES[0]))


@pytest.mark.parametrize(("max_norm", "factor"), [(1.0, 1 / math.sqrt(45)), (100.0, 1.0)])
def test_clipping_looks_at_all_gradients_together(max_norm: float, factor: float) -> None:
    layer = nn.Linear(5, 1)
    layer.weight.grad, layer.bias.grad = torch.full((1, 5), 2.0), torch.full((1,), 5.0)
    clip_gradients(list(layer.parameters()), max_norm)
    torch.testing.assert_close(layer.weight.grad, torch.full((1, 5), 2 * factor))
    torch.testing.assert_close(layer.bias.grad, torch.full((1,), 5 * factor))


def test_layer_decay_is_a_factor_of_the_rate() -> None:
    network = build("small_resnet_8", 3)
    before = {name: tensor.clone() for name, tensor in network.named_parameters()}
    groups = parameter_groups(network, weight_decay=0.0, layer_decay=0.5)
    optimizer = make_optimizer("sgd", settings(momentum=0.0), groups)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    # The head, three stages, the stem with its norm.
    factors = {
        "fc": 1,
        "layer3": 0.5,
        "layer2": 0.25,
        "layer1": 0.125,
        "bn1": 1 / 16,
        "conv1": 1 / 16,
    }
    for name, parameter in network.named_parameters():
        moved = before[name] - parameter.detach()
        expected = torch.full_like(moved, RATES[0] * factors[name.split(".")[0]])
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6)
