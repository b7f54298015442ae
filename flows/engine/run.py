"""Run: the run of a recipe under Prefect: every stage is a task, named by its role.

In: what a plain run takes. Out: the same outputs. An error that the user can mend ends its task as
Failed with one sentence; any other exception is a defect and keeps its traceback.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from flows.campaign.run import Run
from flows.campaign.stage_run import Work
from flows.engine.approval import suspend_until_approved
from flows.engine.logs import log_error, log_once
from infra.errors import ProtegeError
from infra.executors import Failures
from infra.launch import Crashed
from tasks.contract import Output
from tasks.estimate import Estimate

READABLE = (ProtegeError, Failures, Crashed)
for _name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
    log_once(logging.getLogger(_name))

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def readable(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """End a task or a flow as Failed, with the message alone, when the error explains itself."""

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Any:
        try:
            return function(*args, **kwargs)
        except READABLE as error:
            log_error(error)
            return Failed(message=str(error), data=error)

    return call


class PrefectRun(Run):
    """A run inside a flow."""

    def _run_stage(self, stage: str, role: str, work: Work) -> Output:
        @readable
        def run_stage() -> Output:
            return super(PrefectRun, self)._run_stage(stage, role, work)

        # Results stay in the store, so nothing is cached or persisted.
        as_task = task(
            name=stage,
            task_run_name=self._title(stage, role),
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        state: State[Output] = as_task(run_stage)(return_state=True)
        # A failed stage raises here what it failed with; Prefect would hand over its state.
        return state.result()

    def group(self, name: str, work: Callable[[], Result]) -> Result:
        """Run them as a flow of their own inside this one, so that the UI shows them together."""

        @readable
        def run_group() -> Result:
            return work()

        as_flow = flow(name="group", flow_run_name=name, persist_result=False)(run_group)
        state: State[Result] = as_flow(return_state=True)
        return state.result()

    def _ask(self, stage: str, estimate: Estimate) -> None:
        """Suspend a run of a deployment; ask in the terminal where the run was started in one."""
        if runtime.deployment.id is None:
            super()._ask(stage, estimate)
        else:
            suspend_until_approved(stage, estimate)
