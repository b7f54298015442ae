"""Approval: a run that is suspended, before the expensive part, until a person has seen its cost.

In: the stage that is about to begin, and the estimate. Out: nothing, or the end of the run. The
process of a suspended run ends and frees its slot; Resume in the UI, with a typed form, starts it
again, and all that is finished is taken from the store.
"""

from prefect import get_run_logger, suspend_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.input import RunInput
from pydantic import Field

from infra.errors import ProtegeError
from tasks.estimate import Estimate

TIMEOUT_SECONDS = 14 * 24 * 3600


class Approval(RunInput):
    """What the form at Resume asks."""

    go_on: bool = Field(True, title="Go on", description="Off ends the run; finished work is kept.")
    note: str = Field("", title="Note", description="Why; it goes into the log of the run.")


def suspend_until_approved(stage: str, estimate: Estimate) -> None:
    """Suspend the flow run until somebody approves. Raises ProtegeError when the answer is no."""
    text = "\n".join(f"- {line}" for line in estimate.lines())
    question = f"Before `{stage}`, this run waits for approval. It is about to cost:\n\n{text}"
    create_markdown_artifact(question, description=f"Approval before {stage}")
    form = Approval.with_initial_data(description=question)
    answer = suspend_flow_run(wait_for_input=form, timeout=TIMEOUT_SECONDS, key=f"before-{stage}")
    note = f": {answer.note}" if answer.note else ""
    if not answer.go_on:
        raise ProtegeError(f"{stage} was not approved{note}. What is finished is kept")
    get_run_logger().info(f"{stage} was approved{note}")
