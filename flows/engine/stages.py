"""Stages: every stage as a Prefect task, named by its role in the campaign.

In: the `Run` and what the stage's own function takes. Out: the reference to its output. Nothing is
computed here. An error that the user can mend ends the task as Failed with one sentence; any other
exception is a defect and keeps its traceback.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from prefect import get_run_logger, runtime, task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows.campaign.run import Run
from flows.engine.logs import told_once
from flows.engine.server import await_server
from infra.errors import ProtegeError
from infra.executors import Failures
from infra.launch import Crashed
from infra.settings import Settings
from infra.store import open_store
from tasks import evaluate as evaluating
from tasks import gather as gathering
from tasks import report as reporting
from tasks import score as scoring
from tasks import shard as sharding
from tasks import topk as choosing
from tasks import train as training
from tasks.contract import Output
from tasks.duplicates import signature as signature_stage

READABLE = (ProtegeError, Failures, Crashed)
# What Prefect's engine says of a failure that `readable` has told already.
for _name in ("prefect.flow_runs", "prefect.engine"):
    told_once(logging.getLogger(_name), READABLE)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def readable(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """End a task or a flow as Failed, with the message alone, when the error explains itself."""

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
        try:
            return function(*args, **kwargs)
        except READABLE as error:
            get_run_logger().error(str(error))
            return Failed(message=str(error), data=error)

    return call


def _named_by_role() -> str:
    """`train student`; `score`, where the stage has one role only and its name says all."""
    stage, role = runtime.task_run.task_name, runtime.task_run.parameters["role"]
    return stage if stage == role else f"{stage} {role}"


def _stage(name: str) -> Callable[[Callable[Parameters, Output]], Callable[Parameters, Output]]:
    """A Prefect task for a stage. Results stay in the store, so nothing is cached or persisted."""

    def wrap(function: Callable[Parameters, Output]) -> Callable[Parameters, Output]:
        as_task = task(
            name=name,
            task_run_name=_named_by_role,
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        prefect_task = as_task(readable(function))

        @functools.wraps(function)
        def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Output:
            state: State[Output] = prefect_task(*args, return_state=True, **kwargs)
            # A failed stage raises here what it failed with; Prefect would hand over its state.
            return state.result()

        return call

    return wrap


@_stage("shard")
def shard(run: Run, role: str, options: sharding.ShardOptions) -> Output:
    """Shard a source, as the campaign has pinned it."""
    watch = run.progress(f"shard {role}")
    output = sharding.shard(run.store, options, run.executor, watch, run.snapshot(role))
    return _told(run, role, output)


@_stage("train")
def train(
    run: Run,
    role: str,
    options: training.TrainOptions,
    data: Output,
    classes: Sequence[str],
    init: Output | None = None,
) -> Output:
    """Train a network in processes of its own."""
    watch = run.progress(f"train {role}")
    output = training.train(run.store, options, data, classes, watch, init=init)
    return _told(run, role, output)


@_stage("score")
def score(
    run: Run, role: str, options: scoring.ScoreOptions, images: Output, teacher: Output
) -> Output:
    """Let the teacher look at every image."""
    watch = run.progress("score")
    output = scoring.score(run.store, options, images, teacher, run.executor, watch)
    return _told(run, role, output)


@_stage("signature")
def signature(run: Run, role: str, images: Output) -> Output:
    """Make the signatures of known images, so that their copies in the pile are found."""
    watch = run.progress(role if role == "signature" else f"signature {role}")
    output = signature_stage.signature(run.store, images, run.executor, watch)
    return _told(run, role if role == "signature" else f"{role}_signatures", output)


@_stage("topk")
def topk(
    run: Run,
    role: str,
    options: choosing.TopkOptions,
    scores: Output,
    exclude: Mapping[str, Output],
) -> Output:
    """Choose the best images of every class."""
    watch = run.progress("topk")
    output = choosing.topk(run.store, options, scores, run.executor, watch, exclude=exclude)
    classes = choosing.read_classes(output).to_pylist()
    for line in choosing.describe_dropped(classes):
        get_run_logger().info(line)
    short = [row for row in classes if row["kept"] < options.k and not options.rules.across_classes]
    if short:
        names = ", ".join(f"{row['name']} ({row['kept']})" for row in short[:10])
        get_run_logger().warning(
            f"{len(short)} classes have fewer than {options.k} images: {names}"
        )
    return _told(run, role, output)


@_stage("gather")
def gather(
    run: Run, role: str, options: gathering.GatherOptions, images: Output, chosen: Output
) -> Output:
    """Collect the chosen images into training shards."""
    watch = run.progress("gather")
    output = gathering.gather(run.store, options, images, chosen, run.executor, watch)
    return _told(run, role, output)


@_stage("evaluate")
def evaluate(
    run: Run,
    role: str,
    options: evaluating.EvaluateOptions,
    test: Output,
    models: Mapping[str, Output],
    choice: evaluating.Choice | None,
) -> Output:
    """Measure the models and the choice."""
    watch = run.progress("evaluate")
    output = evaluating.evaluate(
        run.store, options, test, models, run.executor, watch, choice=choice
    )
    return _told(run, role, output)


@_stage("report")
def report(run: Run, role: str, options: reporting.ReportOptions, story: reporting.Story) -> Output:
    """Write the page."""
    output = reporting.report(run.store, options, story, run.progress("report"))
    return _told(run, role, output)


def link(page: Output) -> str:
    """Link a report from the flow run, as soon as the server is there; returns the address."""
    settings = Settings()
    address = _address(page, settings)
    await_server(settings.patience_seconds)
    # Without a key: with one, the UI leads from the run to a list over all runs.
    create_link_artifact(address, link_text="Report", description=f"Report: {address}")
    return address


def _address(page: Output, settings: Settings) -> str:
    """Where a browser finds a report: at the pages of `protege up`, else where it lies."""
    # The pages serve one root; a report of another one can only be named.
    here = page.uri.startswith(f"{open_store(settings.root).uri}/")
    if settings.pages and here:
        return f"{settings.pages}/{page.stage}/{page.fingerprint}/{reporting.PAGE}"
    return f"{page.uri}/{reporting.PAGE}"


def _told(run: Run, role: str, output: Output) -> Output:
    logger = get_run_logger()
    state = "was already there" if output.reused else f"made in {output.seconds:.1f} s"
    rejected = f", {output.rejected:,} rejected" if output.rejected else ""
    logger.info(f"{role}: {output.uri} {state}, {output.kept:,} rows kept{rejected}")
    return run.record(role, output)
