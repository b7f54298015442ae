"""metrics: a file that people follow, the same for other programs, and the line of progress."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.errors import ProtegeError
from infra.settings import MetricsSettings
from infra.store import Store, open_store
from tasks.train.metrics import MetricsLog, Speed, SpeedMeter, describe_metrics
from tasks.train.writers import WRITERS, open_writers
from tests.builders.waiting import wait_for

FAST = Speed(800.0, 0.25, 0)


def row(step: int) -> dict[str, Any]:
    loss = {"loss": 1 / step, "learning_rate": 0.1, "measurements": {"accuracy": 0.5}}
    return {"step": step, "images": 8 * step, **loss}


def write(log: MetricsLog, *steps: int) -> None:
    for step in steps:
        log.add(row(step), FAST)
        log._writing.wait()
    log.finish()


def steps_in(store: Store) -> list[int]:
    return [json.loads(line)["step"] for line in store.read("metrics.jsonl").splitlines()]


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "disk":
        return open_store(str(tmp_path))
    return open_store(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def test_each_row_is_a_line_with_the_speed(store: Store) -> None:
    log = MetricsLog(store, attempt=3, step=0)
    write(log, 1, 2)
    line = json.loads(store.read("metrics.jsonl").splitlines()[1])
    assert line.pop("seconds") >= 0
    assert line == {
        "step": 2,
        "images": 16,
        "loss": 0.5,
        "learning_rate": 0.1,
        "accuracy": 0.5,
        "images_per_second": 800.0,
        "waiting_share": 0.25,
        "gpu_bytes": 0,
        "attempt": 3,
    }


def test_an_attempt_that_resumes_takes_back_what_will_be_made_again(store: Store) -> None:
    write(MetricsLog(store, attempt=1, step=0), 1, 2, 3, 4)
    store.append("metrics.jsonl", b'{"step": 5, "lo')
    write(MetricsLog(store, attempt=2, step=2), 3, 4)
    assert steps_in(store) == [1, 2, 3, 4]
    write(MetricsLog(store, attempt=3, step=0), 1)
    assert steps_in(store) == [1]


def test_lines_of_a_store_that_was_away_are_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(str(tmp_path))
    log = MetricsLog(store, attempt=1, step=0)
    with monkeypatch.context() as patch:
        patch.setattr(log, "_store", open_store("/dev/null/nowhere"))
        log.add(row(1), FAST)
        log._writing.wait()
    assert "metrics.jsonl was not written to" in caplog.text
    write(log, 2)
    assert steps_in(store) == [1, 2]


def test_speed_is_that_since_the_last_reading() -> None:
    times = iter([100.0, 110.0, 112.0])
    meter = SpeedMeter(lambda: next(times))
    assert meter.read(images=50, waited_seconds=2.5) == Speed(5.0, 0.25, 0)
    assert meter.read(images=60, waited_seconds=2.5) == Speed(5.0, 0.0, 0)


def test_progress_says_loss_rate_speed_waiting_and_memory() -> None:
    line = {"loss": 0.7131, "learning_rate": 0.1, "images_per_second": 8300.0}
    line |= {"waiting_share": 0.021, "gpu_bytes": 3 << 30}
    text = "loss 0.713, rate 0.1, 8,300 images/s, waiting 2 %, GPU 3.0 GiB"
    assert describe_metrics(line) == text
    assert describe_metrics({"loss": None}) == ""


def test_writer_that_is_unknown_or_not_installed_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ProtegeError, match="'csv' is no writer; there are: tensorboard, mlflow"):
        open_writers(MetricsSettings(writers="csv"), "out/train/5f0c", 0)
    for name in WRITERS:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, f"tasks.train.writers.{name}", raising=False)
        with pytest.raises(ProtegeError, match=rf"pip install 'protege\[{name}\]'"):
            open_writers(MetricsSettings(writers=name), "out/train/5f0c", 0)
    assert open_writers(MetricsSettings(), "out/train/5f0c", 0) == []


def wandb_losses(file: Path) -> dict[int, float]:
    """Its rows are protocol buffers, in order: a name, then the length of its value, and that."""
    values = re.findall(rb"loss\x82\x01.([0-9.]+)", file.read_bytes())
    # The last one of a name is in the summary, too.
    losses = dict.fromkeys(map(float, values))
    return dict(enumerate(losses, start=1))


def rows_of(name: str, folder: Path) -> Mapping[int, float]:
    """The losses that another program reads back, by step."""
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder / "tensorboard/5f0c")).Reload()
        return {event.step: event.value for event in events.Scalars("loss")}
    if name == "mlflow":
        import mlflow

        client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow/mlflow.db")
        experiment = client.get_experiment_by_name("protege")
        (run,) = client.search_runs([experiment.experiment_id])
        history = client.get_metric_history(run.info.run_id, "loss")
        return {metric.step: metric.value for metric in history}
    (file,) = folder.glob("wandb/wandb/offline-run-*/*.wandb")
    return wait_for(lambda: wandb_losses(file), "its process has written them")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.filterwarnings("ignore")
def test_another_program_reads_the_rows(tmp_path: Path, name: str) -> None:
    pytest.importorskip(name)
    log = MetricsLog(open_store(str(tmp_path / "out")), attempt=1, step=0)
    settings = MetricsSettings(writers=name, folder=str(tmp_path))
    log.writers = open_writers(settings, "out/train/5f0c", 0)
    write(log, 1, 2)
    assert not log._writing.error
    assert rows_of(name, tmp_path) == {1: 1.0, 2: 0.5}
