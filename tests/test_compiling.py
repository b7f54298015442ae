"""compiling: a compiled network is the same one, and only a measurement that pays compiles it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.records.base import NetworkRecord, PublishedInputs
from models.records.resnet import resnet
from models.registry import NETWORKS, build
from tasks.compiling import MARGIN, PassSeconds, is_wanted
from tasks.contract import Output
from tasks.options import CompileChoice, Length
from tasks.train.checkpoint import last_state
from tasks.train.compiling import Passes, compile_network, measured_seconds
from tasks.train.options import TrainOptions
from tasks.train.trainer import Trainer
from tests.builders.trainings import ONE, SMALL, job, run_to

# Of torch's own modules, when its compiler is loaded.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")

SECONDS = st.floats(0, 1000)
# One block, because a C++ compiler takes seconds for each layer.
RECORD = NetworkRecord(
    "one_block", "resnet", resnet("basic", (1,), (4,), small_stem=True), PublishedInputs(16), 0, 0
)


def options(choice: CompileChoice) -> TrainOptions:
    """Batch norm in two virtual ranks, and an average of the weights."""
    return SMALL.model_copy(
        update={
            "model": RECORD.name,
            "batch_size": 12,
            "virtual_ranks": 2,
            "length": Length(amount=6, unit="steps"),
            "speed": SMALL.speed.model_copy(update={"compile": choice}),
        }
    )


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folders of its own for what is compiled and measured, and the network."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setitem(NETWORKS, RECORD.name, RECORD)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "inductor"))
        yield


def finished(trainer: Trainer, folder: Path) -> bytes:
    trainer.run()
    trainer.finish()
    return (folder / "weights.safetensors").read_bytes()


def test_compiled_training_differs_by_rounding_alone_and_resumes_exactly(
    lessons: Output, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    files = {}
    for choice in ("never", "always"):
        trainer = Trainer(job(lessons, tmp_path / choice, options(choice)), ONE)
        assert trainer.learner.compiling.compiled == (choice == "always")
        files[choice] = finished(trainer, tmp_path / choice)
    eager, compiled = (safetensors.torch.load(files[choice]) for choice in ("never", "always"))
    assert files["never"] != files["always"]
    torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-4)

    cut = job(lessons, tmp_path / "cut", options("always"))
    run_to(Trainer(cut, ONE), 3)
    resumed = Trainer(cut, ONE)
    state = last_state(resumed._store)
    assert state is not None
    assert state.compiled
    assert state.networks["network"].keys() == state.networks["average"].keys() == eager.keys()
    assert resumed.learner.step == 3
    assert finished(resumed, tmp_path / "cut") == files["always"]


def test_auto_leaves_the_network_of_a_cpu_as_it_is(lessons: Output, tmp_path: Path) -> None:
    trainer = Trainer(job(lessons, tmp_path / "a", options("auto")), ONE)
    assert not trainer.learner.compiling.compiled


def passes(network: nn.Module, images: int, left: int = 10**9) -> Passes:
    return Passes(network, images, options("always"), left)


def test_measurement_is_kept_and_short_trainings_are_not_measured() -> None:
    network = build("mean_colour", 2)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert measured_seconds(passes(network, 2, left=1), {"model": "a"}) is None
    first = measured_seconds(passes(network, 2), {"model": "a"})
    assert first is not None
    assert min(first.eager, first.compiled, first.compiling) > 0
    assert measured_seconds(passes(network, 2, left=1), {"model": "a"}) == first
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_network_that_torch_cannot_compile_is_trained_as_it_is(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    case = passes(build("mean_colour", 2), 3)
    compilers = {"cpp.cxx": (str(tmp_path / "no-compiler"),)}
    with torch._inductor.config.patch(compilers), caplog.at_level(logging.WARNING):
        assert not compile_network(case, ONE, {}, kept=None).compiled
    assert "the network is not compiled, because torch cannot" in caplog.text
    assert "No working C++ compiler found" in caplog.text
    case.run(case.network)


@given(SECONDS, SECONDS, SECONDS, st.integers(1, 10**6))
def test_compiling_pays_by_a_margin_and_the_longer_the_more(
    eager: float, compiled: float, compiling: float, left: int
) -> None:
    seconds = PassSeconds(eager, compiled, compiling)
    if seconds.pays(left):
        assert eager > compiled
        assert (eager - compiled) * left > MARGIN * compiling
        assert seconds.pays(2 * left)
    assert not PassSeconds(compiled, compiled + eager, compiling).pays(left)


@pytest.mark.parametrize("kept", [True, False])
def test_a_resume_takes_the_decision_of_its_checkpoint_without_measuring(kept: bool) -> None:
    def pays() -> bool:
        raise AssertionError("it was measured")

    assert is_wanted("auto", "cuda", kept, pays) == kept
    assert is_wanted("always", "cuda", kept, pays)
    assert not is_wanted("never", "cuda", kept, pays)
    assert not is_wanted("auto", "cpu", kept, pays)
    assert is_wanted("auto", "cuda", None, lambda: kept) == kept
