"""Frozen layers: what is not trained keeps its weights and its statistics, to the last bit."""

import pytest
import torch
from torch import Tensor

from flows.campaign.run import Run
from infra.errors import ProtegeError
from infra.executors import Inline
from infra.store import Store
from models.optim import freeze_layers, layer_groups, parameter_groups, set_training
from models.registry import build
from tasks.contract import Output
from tasks.images import Inputs
from tasks.inference.weights import load_network
from tasks.train import Training, TrainOptions
from tests.builders.campaign import tiny_steps

NETWORK = "small_resnet_8"


def state_of(model: Output) -> dict[str, Tensor]:
    state: dict[str, Tensor] = load_network(model)[0].state_dict()
    return state


def test_frozen_layers_keep_weights_and_statistics_and_others_do_not(
    root: Store, lessons: Output
) -> None:
    run = Run(root, Inline())
    options = TrainOptions(
        model=NETWORK, inputs=Inputs(size=16, resize=16, pixels="unit"), **tiny_steps(2, base=0.1)
    )
    before = run.train(lessons, options)
    after = run.fine_tune(before, lessons, Training(frozen_layers=2, **tiny_steps(3, base=0.1)))
    network = build(NETWORK, 3)
    frozen = {parameter for group in layer_groups(network)[:2] for parameter in group}
    names = {name for name, parameter in network.named_parameters() if parameter in frozen}
    # The statistics of a norm lie beside its weight.
    places = {name.rpartition(".")[0] for name in names}
    first, second = state_of(before), state_of(after)
    assert names
    for name, values in first.items():
        if name.rpartition(".")[0] in places:
            assert second[name].equal(values), name
        elif name.endswith("weight"):
            assert not second[name].equal(values), name


def test_frozen_parameters_are_in_no_group_of_the_optimizer_and_their_norms_do_not_learn() -> None:
    network = build(NETWORK, 3)
    freeze_layers(network, 1)
    set_training(network)
    kept = {id(parameter) for parameter in layer_groups(network)[0]}
    groups = parameter_groups(network, weight_decay=0.1)
    assert not kept & {id(parameter) for group in groups for parameter in group["params"]}
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [norm.training for norm in norms] == [norm.weight.requires_grad for norm in norms]
    assert not all(norm.training for norm in norms)


def test_network_that_would_be_frozen_altogether_is_refused(root: Store, lessons: Output) -> None:
    options = TrainOptions(
        model=NETWORK,
        inputs=Inputs(size=16, resize=16, pixels="unit"),
        frozen_layers=50,
        **tiny_steps(2),
    )
    with pytest.raises(ProtegeError, match=r"frozen_layers: the network has \d+ layers, and 50"):
        Run(root, Inline()).train(lessons, options)
