"""Launching: runs the processes of one training until it is done, on this machine or on others.

In: a `TrainingPlan`. Out: the weights and the history in the folder of the output, and the seconds
that each part of the work took. Processes that die are launched again, and resume.

    seconds = run_to_end(plan, None, session)        # on the machines of the settings
"""

import logging
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from infra.launch import Crashed, job_file, launch, take_messages
from infra.nodes.launch_on import launch_on, share_out
from infra.nodes.reach import first_address, reach_nodes
from infra.settings import Processes, Settings, TrainingSettings
from tasks.contract import Output, Session
from tasks.train.job import TRAIN_SET, InitHead, TrainJob, fits_head_only
from tasks.train.memory import memory_remedy
from tasks.train.metrics import describe_metrics
from tasks.train.objective_check import check_processes
from tasks.train.objective_options import ObjectiveOptions
from tasks.train.options import TrainOptions
from tasks.train.start.given import GivenWeights

MODULE = "tasks.train"
MAX_STUCK_LAUNCHES = 1  # what dies twice at the same step is no accident
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingPlan:
    """What a training is given, before it is known which processes do it."""

    options: TrainOptions
    objective: ObjectiveOptions
    data: Mapping[str, Output]
    models: Mapping[str, Output]
    classes: tuple[str, ...]
    given: GivenWeights
    init: Output | None
    init_head: InitHead

    @property
    def images_per_epoch(self) -> int:
        """The images of one pass over the data."""
        return self.data[TRAIN_SET].kept

    @property
    def total_steps(self) -> int:
        """The steps of the training; 0 where weights are taken as they are, or a head is fitted."""
        return self.options.total_steps(self.images_per_epoch)

    @property
    def total_work(self) -> int:
        """Steps; for a linear head, images whose features are computed."""
        is_linear = fits_head_only(self.options, self.init_head)
        return self.images_per_epoch if is_linear else self.total_steps

    @property
    def max_processes(self) -> int:
        """As many processes as have something to do."""
        return self.options.num_virtual_ranks if self.total_steps else 1

    def job(self, session: Session) -> TrainJob:
        """What each process is given."""
        return TrainJob(
            uri=session.store.uri,
            options=self.options,
            objective=self.objective.NAME,
            objective_options=self.objective.content(),
            data=self.data,
            models=self.models,
            classes=self.classes,
            given_classes=self.given.classes,
            init=self.init,
            init_head=self.init_head,
            attempt=session.attempt,
        )


def run_to_end(
    plan: TrainingPlan, processes: Processes | None, session: Session
) -> dict[str, float]:
    """Train to the end. Returns the seconds of each part of the work.

    Without `processes`, the settings decide. Raises ProtegeError, and `Crashed` for processes that
    die without getting any further.
    """
    total, reached, stuck = plan.total_work, -1, 0
    session.on_progress(0, total, "starting")
    while True:
        reached_before, seconds = reached, dict[str, float]()
        try:
            with closing(_launch(plan, processes, plan.job(session).model_dump_json())) as lines:
                for line in lines:
                    seconds, reached = line["seconds"], max(reached, line["step"])
                    session.on_progress(line["step"], total, describe_metrics(line))
        except Crashed as error:
            stuck = 0 if reached > reached_before else stuck + 1
            if error.out_of_memory or stuck > MAX_STUCK_LAUNCHES:
                if not error.likely_memory:
                    raise
                here = _processes_here(processes)
                count = here.count if here else 0
                remedy = memory_remedy(plan.options, len(plan.classes), count)
                raise Crashed(f"{error}. {remedy}", out_of_memory=error.out_of_memory) from error
            logger.warning("the training died and resumes from its last checkpoint: %s", error)
        else:
            return seconds


def _launch(
    plan: TrainingPlan, processes: Processes | None, job: str
) -> Generator[dict[str, Any], None, None]:
    """Launch the processes once, on the machines of the settings. Yields their progress."""
    here = _processes_here(processes)
    if here is None:
        yield from _launch_on_hosts(plan, Settings().training, job)
    else:
        yield from _launch_here(plan, here, job)


def _launch_here(
    plan: TrainingPlan, processes: Processes, job: str
) -> Generator[dict[str, Any], None, None]:
    count = min(processes.count, plan.max_processes)
    _check_count(plan, processes.count, count)
    with job_file(job) as path:
        yield from launch(MODULE, path, count, plan.options.speed.threads or processes.threads)


def _launch_on_hosts(
    plan: TrainingPlan, settings: TrainingSettings, job: str
) -> Generator[dict[str, Any], None, None]:
    with reach_nodes(settings) as nodes:
        shares = share_out(nodes, plan.max_processes)
        count = sum(processes for _, processes in shares)
        _check_count(plan, sum(node.processes for node in nodes), count)
        logger.info(
            "training in %s",
            ", ".join(f"{processes} processes on {node.name}" for node, processes in shares),
        )
        address, threads = first_address(settings, nodes), plan.options.speed.threads
        messages = launch_on(shares, MODULE, job, address=address, threads=threads)
        with closing(messages):
            yield from take_messages(messages)


def _processes_here(processes: Processes | None) -> Processes | None:
    """The processes of this machine; None where a training runs on others."""
    settings = Settings()
    if settings.training.hosts and processes is None:
        return None
    return processes or settings.training_processes()


def _check_count(plan: TrainingPlan, offered: int, used: int) -> None:
    """Warn of processes without work. Raises ProtegeError for a number that cannot do this one."""
    if not plan.total_steps:
        return
    if used < offered:
        logger.warning(
            "%s of the %s training processes are not used, because a batch has %s virtual ranks",
            offered - used,
            offered,
            used,
        )
    check_processes(plan.objective, plan.options, used)
