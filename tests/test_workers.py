"""Workers: how many of them predict changes nothing; on what they compute is exact, or is said."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.executors import Cluster, Executor, Inline
from infra.settings import DaskSettings
from infra.store import Store, open_store
from models.precision import Precision, computing_in
from tasks.contract import Output, versions
from tasks.evaluate import PredictOptions, evaluate, figure, predict, read_metrics, read_predictions
from tasks.inference.model import load_model
from tasks.score import ScoreOptions, score
from tasks.shard import ShardOptions, shard
from tests.builders.models import model


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """Ten test pictures, in three classes."""
    folder = tmp_path_factory.mktemp("ten")
    for name, count in (("red", 4), ("green", 3), ("blue", 3)):
        (folder / name).mkdir()
        for path in sorted((pictures / "test" / name).iterdir())[:count]:
            shutil.copy(path, folder / name)
    return folder


def measured(root: Store, folder: Path, executor: Executor) -> tuple[Output, Output]:
    """Predictions and measures of ten pictures in shards of three; batches are not filled."""
    options = ShardOptions(source=str(folder), labelled=True, images_per_shard=3)
    test, network = shard(root, options), model(root)
    predicted = predict(root, network, test, PredictOptions(batch_size=8), executor=executor)
    return predicted, evaluate(root, test, {"model": network}, executor=executor)


def test_one_worker_and_four_count_each_of_ten_pictures_once(tmp_path: Path, ten: Path) -> None:
    one = measured(open_store(str(tmp_path / "one")), ten, Inline())
    with Cluster(DaskSettings(workers=4)) as workers:
        four = measured(open_store(str(tmp_path / "four")), ten, workers)
    tables = [read_predictions(predicted) for predicted, _ in (one, four)]
    assert [len(table) for table in tables] == [10, 10]
    assert tables[0].equals(tables[1])
    metrics = [read_metrics(metrics) for _, metrics in (one, four)]
    assert metrics[0].equals(metrics[1])
    right = sum(rank == 0 for rank in tables[0]["rank"].to_pylist())
    assert figure(metrics[0], "model", "top1") == pytest.approx(right / 10)


def test_parts_say_on_what_they_were_computed(root: Store, pictures: Path) -> None:
    """What can move a result by a rounding: the device, and the version of what computes on it."""
    network = model(root)
    images = shard(root, ShardOptions(source=str(pictures / "test"), labelled=True))
    loaded = load_model(network)
    for output in (score(root, images, network, ScoreOptions()), predict(root, network, images)):
        for part in output.body["parts"]:
            assert part["facts"]["device"] == loaded.device.type
            assert part["facts"]["torch"] == versions()["torch"]
            assert {"gpu", "cuda", "cudnn"} <= part["facts"].keys() or loaded.device.type == "cpu"


def products() -> set[str]:
    """The arithmetic of products on a GPU, as torch has been set."""
    backends: Any = torch.backends
    kinds = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
    return {kind.fp32_precision for kind in kinds}


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")]
)
def test_float32_is_exact_single_precision_and_tf32_must_be_asked_for(
    precision: Precision, expected: str
) -> None:
    for other in ("tf32", "float32"):
        with computing_in(other, torch.device("cpu")):
            pass  # what came before does not matter
        with computing_in(precision, torch.device("cpu")):
            assert products() == {expected}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_convolution_in_float32_has_all_its_bits_on_a_gpu() -> None:
    device = torch.device("cuda")
    images = torch.rand(2, 64, 16, 16, dtype=torch.float64, device=device)
    weights = torch.rand(8, 64, 3, 3, dtype=torch.float64, device=device)
    exact = torch.nn.functional.conv2d(images, weights)
    with computing_in("float32", device):
        single = torch.nn.functional.conv2d(images.float(), weights.float())
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=0)


def test_answers_do_not_depend_on_the_batch_and_leave_the_network_as_it_was(
    root: Store, pictures: Path
) -> None:
    """A network with batch norm, as in training mode it would answer by its neighbours."""
    loaded = load_model(model(root))
    before = {name: value.clone() for name, value in loaded.network.state_dict().items()}
    assert any(name.endswith("running_mean") for name in before)
    paths = sorted((pictures / "test").rglob("*.png"))
    answers = {
        size: torch.cat(
            [batch.outputs_BC for batch in loaded.run(paths, loaded.decode, batch_size=size)]
        )
        for size in (1, 64)
    }
    torch.testing.assert_close(answers[1], answers[64], rtol=1e-5, atol=1e-5)
    for name, value in loaded.network.state_dict().items():
        assert torch.equal(value, before[name]), name
