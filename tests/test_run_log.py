"""The log of a flow run: what stages, workers and ranks say is in it, read back from Prefect."""

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from infra.launch import launch
from infra.store import Store, open_store
from tasks.contract import PartId, run_shards, silent
from tests.builders.campaign import tiny
from tests.builders.odd_shards import OddShard

LOGGER = logging.getLogger("tasks.contract")


def work(run: Any, folder: Path) -> None:
    """A stage: in the run's process, in a worker, and in two launched processes."""
    LOGGER.info("score: reads 100%")
    stage = open_store(f"{run.store.uri}/score/5f0c")
    run_shards(stage, [PartId(17)], OddShard(stage.uri), run.executor, silent)
    list(launch("tests.builders.warner", folder / "job", processes=2, threads=1))


class Console(logging.Handler):
    """What the console would get, which hangs on the root logger."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def run_small(options: Any, root: str, folder: Path, console: Console) -> list[Any]:
    """A run of a flow; its log, as Prefect's server has it."""
    from prefect import flow, get_client, runtime, task
    from prefect.cache_policies import NO_CACHE
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.logging.handlers import APILogHandler

    from flows.engine.session import open_session

    stage = task(name="score", cache_policy=NO_CACHE)(work)

    @flow(persist_result=False)
    def small() -> list[Any]:
        logging.getLogger().addHandler(console)
        with open_session(root) as run:
            stage(run, folder)
            thread = threading.Thread(target=LOGGER.info, args=("from a thread",))
            thread.start()
            thread.join()
            logging.getLogger("other").warning("of another library")
        logging.getLogger().removeHandler(console)
        LOGGER.info("after the run")
        APILogHandler().flush()
        mine = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[runtime.flow_run.id]))
        with get_client(sync_client=True) as client:
            return client.read_logs(mine)

    return small()


def test_what_is_said_in_a_run_is_in_its_log_once(
    root: Store, pictures: Path, tmp_path: Path
) -> None:
    console: list[str] = []
    said = run_small(tiny(pictures), root.uri, tmp_path, Console(console))
    of_stage = [log.message for log in said if log.task_run_id]
    assert "score: reads 100%" in of_stage
    (worker,) = [text for text in of_stage if "score shard 17: " in text]
    assert "UserWarning: odd thing 0" in worker
    assert [text for text in of_stage if text.startswith("rank 1: ")]
    whole = [log.message for log in said]
    assert whole.count("score: reads 100%") == 1
    assert whole.count("from a thread") == 1
    assert not {"of another library", "after the run"} & set(whole)
    assert console.count("score: reads 100%") == 1
    for name in ("flows", "tasks", "models", "infra"):
        logger = logging.getLogger(name)
        assert (logger.level, logger.propagate, logger.handlers) == (logging.NOTSET, True, [])


def test_error_that_was_logged_is_not_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    from flows.engine.logs import log_once

    logger = logging.getLogger("tests.caller")
    log_once(logger)
    defect = ValueError("a defect")
    for _ in ("of the task", "of the flow"):
        try:
            raise defect
        except ValueError:
            logger.exception("it exited with a defect")
    logger.error("Task run failed with state: Failed(message='a sentence')", exc_info=True)
    logger.error("Finished in state Failed('a sentence')")
    logger.error("and then")
    assert [one.getMessage() for one in caplog.records] == ["it exited with a defect", "and then"]
