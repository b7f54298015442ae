"""replay: a step whose loss was no number, kept when it ended a training, and made again."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from flows.cli import app, main
from infra.errors import ProtegeError
from infra.store import open_store
from models.registry import build
from tasks.contract import Output
from tasks.options import Length
from tasks.train.divergence import Diverged
from tasks.train.monitor import StepMonitor
from tasks.train.options import LearningRate, TrainSpeed
from tasks.train.replay import replay
from tasks.train.replay_page import replay_lines, replay_page
from tasks.train.trace import Trace
from tasks.train.trainer import Trainer
from tests.builders.trainings import ONE, SMALL, job, run_to

# One checkpoint, at the step where it is stopped; so many rows that each step has one.
WILD = SMALL.model_copy(
    update={
        "learning_rate": LearningRate(base=100),
        "weight_decay": 1.0,
        "batch_size": 12,
        "virtual_ranks": 2,
        "length": Length(amount=200, unit="steps"),
        "speed": TrainSpeed(checkpoint_seconds=86_400, threads=1),
    }
)


def diverge(lessons: Output, folder: Path, delay_steps: int = 0) -> int:
    """Train until the loss is no number. Returns the step that says so, counted from 1."""
    trainer = Trainer(job(lessons, folder, WILD), ONE)
    trainer._monitor = StepMonitor(ONE.device, delay_steps)
    with pytest.raises(Diverged, match=r"`protege replay .* shows where it begins"):
        trainer.run()
    (record,) = folder.glob("diverged/*.json")
    return int(json.loads(record.read_text())["step"])


def test_first_loss_that_is_no_number_ends_the_training_whenever_it_is_read(
    lessons: Output, tmp_path: Path
) -> None:
    steps = [diverge(lessons, tmp_path / str(delay), delay) for delay in (0, 2)]
    assert steps[0] == steps[1] > 1
    assert not list(tmp_path.glob("*/checkpoints/*"))


def test_what_is_kept_shows_the_images_as_the_network_saw_them(
    lessons: Output, tmp_path: Path
) -> None:
    step = diverge(lessons, tmp_path / "a")
    kept = sorted((tmp_path / "a" / "diverged").glob(f"step-{step:09d}-rank-*.safetensors"))
    assert kept
    trainer = Trainer(job(lessons, tmp_path / "b", WILD), ONE)
    for file in kept:
        with safetensors.safe_open(file, "pt") as opened:
            metadata = opened.metadata()
            images = opened.get_tensor("train.images_BCHW")
        rank = int(metadata["rank"])
        again = trainer.learner.kept_rank(step - 1, rank)
        assert torch.equal(images, again.inputs["train"].images_BCHW)
        assert json.loads(metadata["images"])["train"] == again.names["train"]
        assert metadata["seed"] == str(again.seed)


def test_replay_makes_the_step_again_from_the_last_checkpoint(
    lessons: Output, tmp_path: Path
) -> None:
    step, folder = diverge(lessons, tmp_path / "a"), tmp_path / "a"
    from_the_start = replay(str(folder), note=print)
    assert (from_the_start.begun_at, from_the_start.noticed_step) == (0, step)
    assert from_the_start.diverges
    assert from_the_start.step <= step
    assert any("After the step" in line for line in replay_lines(from_the_start))

    trainer = Trainer(job(lessons, folder, WILD), ONE)
    run_to(trainer, from_the_start.step - 1)
    assert trainer._saving.finish(trainer.learner.state())
    from_checkpoint = replay(str(folder), note=print)
    assert from_checkpoint.begun_at == from_the_start.step - 1
    assert from_checkpoint.step == from_the_start.step
    assert list(map(str, from_checkpoint.layers)) == list(map(str, from_the_start.layers))


def test_image_that_makes_it_happen_is_named_and_marked(lessons: Output, tmp_path: Path) -> None:
    diverge(lessons, tmp_path / "a")
    replayed = replay(str(tmp_path / "a"), note=print)
    layer = replayed.layers[0]
    layer.not_finite, layer.bad_images = 1, (4,)
    name = replayed.kept.names["train"][4]
    assert name.startswith("image ")
    assert f"{layer.name} ({layer.kind}), in 1 of 6 images: {name}." in "\n".join(
        replay_lines(replayed)
    )
    page = replay_page(replayed)
    assert page.count("data:image/png;base64,") == 6
    assert page.count("<figure class=bad>") == 1
    assert all(name in page for name in replayed.kept.names["train"])


def test_command_prints_the_layers_and_writes_the_page(
    lessons: Output, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step, page = diverge(lessons, tmp_path / "a"), tmp_path / "page.html"
    arguments = ["replay", str(tmp_path / "a"), "--page", str(page)]
    assert main(lambda: app(arguments, standalone_mode=False)) == 0
    said = capsys.readouterr()
    assert "not finite" in said.out
    assert f"steps 1 to {step} are made again" in said.err
    assert page.read_text().startswith("<!doctype html>")


def test_training_that_did_not_diverge_has_nothing_to_replay(tmp_path: Path) -> None:
    with pytest.raises(ProtegeError, match="there is nothing to replay"):
        replay(str(tmp_path), note=print)


def test_result_that_is_not_finite_is_never_published(lessons: Output, tmp_path: Path) -> None:
    short = SMALL.model_copy(update={"length": Length(amount=2, unit="steps")})
    trainer = Trainer(job(lessons, tmp_path / "a", short), ONE)
    trainer.run()
    assert trainer.learner.ema is not None
    with torch.no_grad():
        next(trainer.learner.ema.network.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match="the state of the training is not finite at step 2"):
        trainer.finish()
    assert not open_store(str(tmp_path / "a")).exists("weights.safetensors")


class _Overflow(nn.Module):
    """The second image becomes infinite."""

    def forward(self, values_BC: Tensor) -> Tensor:
        factors_B1 = torch.ones(len(values_BC), 1)
        factors_B1[1] = float("inf")
        return values_BC * factors_B1


def test_trace_finds_the_first_layer_and_the_image() -> None:
    network = nn.Sequential(nn.Linear(2, 2), _Overflow(), nn.Linear(2, 2))
    with Trace(network) as trace:
        network(torch.ones(3, 2)).sum().backward()
    assert [layer.name for layer in trace.layers] == ["0", "1", "2"]
    first = next(layer for layer in trace.layers if layer.not_finite)
    assert (first.name, first.bad_images) == ("1", (1,))
    assert trace.layers[0].bad_gradients
    assert trace.layers[2].largest_gradient == 1.0
    assert len(trace.of_call(0)) == 3
    network(torch.ones(3, 2))
    assert len(trace.layers) == 3, "nothing is watched any more"


def test_trace_changes_no_value_of_a_network() -> None:
    torch.manual_seed(0)
    network, images_BCHW = build("small_resnet_8", 3), torch.rand(4, 3, 16, 16)
    plain = network(images_BCHW)
    with Trace(network) as trace:
        watched = network(images_BCHW)
        watched.sum().backward()
    assert torch.equal(plain, watched)
    assert all(layer.largest_gradient > 0 for layer in trace.layers[-3:])
