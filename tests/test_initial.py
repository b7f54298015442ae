"""Initial weights: blocks that start as identities, and heads that start small or at zero."""

from pathlib import Path

import pytest
import torch
from torch import nn

from infra.errors import ProtegeError
from models.initial import HeadStart, start_head, zero_last_norms
from models.network import Network
from models.registry import build
from tasks.contract import Output
from tasks.train.options import Init, TrainOptions
from tasks.train.trainer import Trainer
from tests.builders.trainings import CLASSES, ONE, SMALL, job


def initial(lessons: Output, folder: Path, init: Init, model: str = "small_resnet_8") -> Network:
    """The network before the first step."""
    options = SMALL.model_copy(update={"init": init, "model": model})
    network = Trainer(job(lessons, folder, options), ONE).learner.network
    assert isinstance(network, Network)
    return network


@pytest.mark.parametrize(("name", "blocks"), [("resnet18", 8), ("resnet50", 16)])
def test_blocks_start_as_identities(name: str, blocks: int) -> None:
    with torch.device("meta"):
        network = build(name, 3)
    norms = network.last_norms()
    assert len(norms) == len({id(norm) for norm in norms}) == blocks
    last = "bn2" if name == "resnet18" else "bn3"
    named = {id(module): key for key, module in network.named_modules()}
    assert all(named[id(norm)].endswith(f".{last}") for norm in norms)


def test_block_whose_last_norm_is_0_gives_its_shortcut() -> None:
    network = build("small_resnet_8", 3).eval()
    zero_last_norms(network)
    block = network.get_submodule("layer1.0")
    x_BCHW = torch.rand(2, 8, 6, 6)
    assert torch.equal(block(x_BCHW), x_BCHW), "its input is not negative, as after a ReLU"


@pytest.mark.parametrize(
    ("start", "deviation"), [("normal", 0.01), ("zero", 0.0), ("uniform", 64**-0.5 / 3**0.5)]
)
def test_head_starts_as_it_is_asked_to(start: HeadStart, deviation: float) -> None:
    torch.manual_seed(0)
    head = nn.Linear(64, 500)
    start_head(head, start)
    assert head.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert bool(head.bias.any()) == (start == "uniform")


def test_options_change_a_new_network_and_nothing_by_default(
    lessons: Output, tmp_path: Path
) -> None:
    plain = initial(lessons, tmp_path / "plain", Init())
    torch.manual_seed(SMALL.seed)
    built = build("small_resnet_8", len(CLASSES))
    assert all(
        torch.equal(tensor, built.state_dict()[name]) for name, tensor in plain.state_dict().items()
    )
    goyal = initial(lessons, tmp_path / "goyal", Init(zero_last_norm=True, head="normal"))
    assert not any(norm.weight.any() for norm in goyal.last_norms())
    assert not goyal.head.bias.any()
    assert not torch.equal(goyal.head.weight, plain.head.weight)
    assert torch.equal(goyal.state_dict()["conv1.weight"], plain.state_dict()["conv1.weight"])
    assert TrainOptions(init=Init(head="zero")).content() != TrainOptions().content()


def test_network_without_such_norms_is_refused(lessons: Output, tmp_path: Path) -> None:
    with pytest.raises(ProtegeError, match=r"zero_last_norm does not fit mean_colour: no residual"):
        initial(lessons, tmp_path / "a", Init(zero_last_norm=True), "mean_colour")
