"""EMA: the average of weights and buffers, where it is needed and nowhere else."""

import copy
from pathlib import Path

import pytest
import torch

from models.ema import Ema
from models.registry import build
from tasks.contract import Output
from tasks.train.checkpoint import last_state
from tasks.train.trainer import Trainer
from tasks.train.world import World
from tests.builders.trainings import ONE, SMALL, job, run_to


def test_average_forgets_the_start_and_follows_the_weights() -> None:
    network = build("mean_colour", 2)
    ema = Ema(network, decay=0.9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(3.0)
    for num_updates in range(100):
        ema.update(num_updates)
    for averaged, last in zip(ema.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(averaged, last, atol=1e-3, rtol=0)


def test_average_is_that_of_its_formula_for_all_tensors() -> None:
    network = build("small_resnet_8", 3)
    ema = Ema(network, decay=0.5)
    expected = copy.deepcopy(network.state_dict())
    for num_updates, decay in enumerate((0.1, 2 / 11, 0.25, 4 / 13)):
        network(torch.rand(4, 3, 16, 16))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.rand_like(parameter))
        ema.update(num_updates)
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor
            else:
                expected[name] = tensor
    torch.testing.assert_close(ema.network.state_dict(), expected)
    assert int(ema.network.state_dict()["bn1.num_batches_tracked"]) == 4


def test_average_follows_a_network_that_was_loaded() -> None:
    network, other = build("small_resnet_8", 3), build("small_resnet_8", 3)
    ema = Ema(network, decay=0.9)
    network.load_state_dict(other.state_dict())
    for num_updates in range(300):
        ema.update(num_updates)
    torch.testing.assert_close(ema.network.state_dict(), other.state_dict())


@pytest.mark.parametrize(("decay", "networks"), [(0.0, {"network"}), (0.9, {"network", "average"})])
def test_checkpoint_has_an_average_only_where_there_is_one(
    lessons: Output, tmp_path: Path, decay: float, networks: set[str]
) -> None:
    options = SMALL.model_copy(update={"ema_decay": decay})
    trainer = Trainer(job(lessons, tmp_path / "a", options), ONE)
    run_to(trainer, 2)
    state = last_state(trainer._store)
    assert state is not None
    assert set(state.networks) == networks
    assert Trainer(job(lessons, tmp_path / "a", options), ONE).learner.step == 2


def test_only_the_process_that_publishes_keeps_an_average(lessons: Output, tmp_path: Path) -> None:
    training = job(lessons, tmp_path / "a")
    run_to(Trainer(training, ONE), 2)
    first = Trainer(training, ONE)
    assert first.learner.ema is not None

    class OtherRank(World):
        """Not the first, in a world of one, so that nothing waits for another process."""

        @property
        def leads(self) -> bool:
            return False

    other = Trainer(training, OtherRank(0, 1, torch.device("cpu")))
    assert other.learner.ema is None
    assert other.learner.step == 2
