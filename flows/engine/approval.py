"""Approval: a run that waits, before the expensive part, until a person has seen what it will cost.

In: the option, the stage that is about to begin, and a function that says in lines what it is about
to cost. Out: nothing, or the end of the run. A run of a deployment is suspended: its process ends
and frees its slot, and Resume in the UI, with a typed form, starts it again; all that is finished
is taken from the store. A run in a terminal asks there.
"""

import sys
from collections.abc import Callable, Sequence

from prefect import get_run_logger, runtime, suspend_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.input import RunInput
from pydantic import Field

from flows.campaign.options import ApprovalOptions
from infra.errors import ProtegeError

TIMEOUT_SECONDS = 14 * 24 * 3600


class Approval(RunInput):
    """What the form at Resume asks."""

    go_on: bool = Field(True, title="Go on", description="Off ends the run; finished work is kept.")
    note: str = Field("", title="Note", description="Why; it goes into the log of the run.")


def approve(options: ApprovalOptions, stage: str, costs: Callable[[], Sequence[str]]) -> None:
    """Wait for a person, if the run is to wait here. Raises ProtegeError when the answer is no."""
    if options.before == stage:
        _ask(stage, costs())


def _ask(stage: str, costs: Sequence[str]) -> None:
    if runtime.deployment.id is None:
        _ask_in_terminal(stage, costs)
        return
    text = "\n".join(f"- {line}" for line in costs)
    question = f"Before `{stage}`, this run waits for approval. It is about to cost:\n\n{text}"
    create_markdown_artifact(question, description=f"Approval before {stage}")
    form = Approval.with_initial_data(description=question)
    answer = suspend_flow_run(wait_for_input=form, timeout=TIMEOUT_SECONDS, key=f"before-{stage}")
    note = f": {answer.note}" if answer.note else ""
    if not answer.go_on:
        raise ProtegeError(f"{stage} was not approved{note}. What is finished is kept")
    get_run_logger().info(f"{stage} was approved{note}")


def _ask_in_terminal(stage: str, costs: Sequence[str]) -> None:
    if not sys.stdin.isatty():
        raise ProtegeError(
            f"approval.before is {stage}, but nobody can be asked here: run it in a terminal, or "
            "from the UI (protege up), or set approval.before=nothing"
        )
    for line in costs:
        print(line, file=sys.stderr)  # noqa: T201  a question in the terminal
    print(f"go on with {stage}? [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ProtegeError(f"{stage} was not approved. What is finished is kept")
