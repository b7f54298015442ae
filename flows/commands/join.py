"""Commands of a job on several machines: join.

srun --ntasks-per-node=1 protege run billion-scale ...    leads on the first node, joins on others
protege join                                              lend this machine to the leading node
"""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from flows.commands.arguments import EXAMPLES
from infra.nodes.job import JobPlace, job_place
from infra.settings import JOB, Settings

app = typer.Typer()


@app.command(epilog=EXAMPLES + "PROTEGE_TRAINING__HOSTS=job protege join")
def join() -> None:
    """Lend this machine to the trainings of the node that leads its job, until that one ends.

    `protege run` does the same by itself on every node of a job but the first one.
    """
    _lend(job_place())


@contextmanager
def leading() -> Iterator[None]:
    """Run the block on the leading node of a job; the others lend their machines to its trainings.

    Without a job, run the block.
    """
    settings = Settings().training
    if settings.hosts != JOB:
        yield
        return
    from infra.nodes.reach import meeting

    place = job_place()
    if not place.leads_job:
        _lend(place)
        raise typer.Exit
    # The others come as soon as they are up, and end with this block, also when it fails early.
    with meeting(settings.meeting_port):
        yield


def _lend(place: JobPlace) -> None:
    """Lend this machine until the leading node ends; once for a node, whatever runs on it."""
    from infra.nodes.meeting import join_meeting

    if place.leads_node:
        typer.echo(f"node {place.node} of the job works for {place.leader}", err=True)
        join_meeting(place, Settings().training.meeting_port)
