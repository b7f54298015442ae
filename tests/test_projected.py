"""Projected: fine-tuning goes on from inside the projection head of a contrastive training."""

from pathlib import Path

import pytest
import torch

from infra.errors import ProtegeError
from infra.settings import Processes
from infra.store import Store
from models.networks.projection import ProjectedNetwork, ProjectionHead
from models.registry import build
from tasks.contract import Output
from tasks.inference.weights import load_network
from tasks.options import Length
from tasks.train import PROJECTION, ContrastiveOptions, TrainOptions, train
from tasks.train.augment_options import Augment
from tasks.train.options import LearningRate, Start
from tests.builders.trainings import CLASSES, SMALL

ONE = Processes(count=1, threads=1)
NAME = "small_resnet_8+projection"
PRETRAINING = SMALL.model_copy(
    update={
        "length": Length(amount=2, unit="steps"),
        "virtual_ranks": 1,
        "augment": Augment(crop_min_area=0.3),
    }
)
# One step that hardly changes what it starts from.
FINE_TUNING = SMALL.model_copy(
    update={
        "model": NAME,
        "length": Length(amount=1, unit="steps"),
        "learning_rate": LearningRate(base=1e-7),
        "ema_decay": 0.0,
    }
)


@pytest.fixture
def pretrained(root: Store, lessons: Output) -> Output:
    """A network that has learned without classes, with its projection head beside it."""
    return train(root, lessons, PRETRAINING, objective=ContrastiveOptions(), processes=ONE)


def starting(weights: str | Path) -> TrainOptions:
    return FINE_TUNING.model_copy(update={"start": Start(weights=str(weights), head="new")})


def parameters_below_the_head(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    named = dict(network.named_parameters())
    return {name: tensor for name, tensor in named.items() if not name.startswith("classifier.")}


def expected_parameters(pretrained: Output) -> dict[str, torch.Tensor]:
    import safetensors.torch

    network = ProjectedNetwork(load_network(pretrained)[0], len(CLASSES))
    network.start_from(safetensors.torch.load(pretrained.store.read(PROJECTION)))
    return parameters_below_the_head(network)


def test_model_of_a_contrastive_training_goes_on_behind_its_first_layer(
    root: Store, lessons: Output, pretrained: Output
) -> None:
    expected = expected_parameters(pretrained)
    by_address = train(root, lessons, starting(pretrained.uri), processes=ONE)
    as_init = train(root, lessons, FINE_TUNING, init=pretrained, init_head="new", processes=ONE)
    for output in (by_address, as_init):
        network, description = load_network(output)
        assert description.model == NAME
        found = parameters_below_the_head(network)
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-5)
    # What was fine-tuned is a network like any other.
    again = train(root, lessons, FINE_TUNING, init=as_init, processes=ONE)
    assert again.options["model"] == NAME


def test_published_projection_goes_on_behind_its_first_layer(
    root: Store, lessons: Output, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    encoder, head = build("small_resnet_8", 7), ProjectionHead(32)
    path = tmp_path / "r50.pth"
    torch.save({"resnet": encoder.state_dict(), "head": head.state_dict()}, path)
    output = train(root, lessons, starting(path), processes=ONE)
    network = load_network(output)[0]
    assert isinstance(network, ProjectedNetwork)
    torch.testing.assert_close(
        network.projection[0].weight, head.state_dict()["layers.0.weight"], rtol=0, atol=1e-5
    )


def test_model_without_a_projection_is_one_sentence_with_the_remedy(
    root: Store, lessons: Output
) -> None:
    supervised = train(root, lessons, PRETRAINING, processes=ONE)
    with pytest.raises(ProtegeError, match=r"has no projection head, .* or the model without"):
        train(root, lessons, starting(supervised.uri), processes=ONE)
    with pytest.raises(ProtegeError, match="has no projection head"):
        train(root, lessons, FINE_TUNING, init=supervised, init_head="new", processes=ONE)
