"""Job: the place of this machine in a job that somebody else has started on several.

In: the environment, as torchrun, Slurm or Kubernetes sets it. Out: a `JobPlace`.

    srun --ntasks-per-node=1 protege run billion-scale ...    # with PROTEGE_TRAINING__HOSTS=job
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from infra.errors import ProtegeError

# A list of Slurm's names: node[01-04,07],login -> node01
FIRST_OF_LIST = re.compile(r"([^,\[]+)(?:\[(\w+)[^\]]*\]([^,\[]*))?")


@dataclass(frozen=True)
class JobPlace:
    """A process of a job; `leads_node` is whether it is the first of its node."""

    node: int
    num_nodes: int
    leader: str
    leads_node: bool = True

    @property
    def leads_job(self) -> bool:
        """Whether this process runs what the user wants; the others lend their machines."""
        return self.node == 0 and self.leads_node


@dataclass(frozen=True)
class _Kind:
    """The variables of a kind of job."""

    name: str
    node: str
    num_nodes: str
    leader: str
    process: str = ""  # the number of a process on its node

    @property
    def needed(self) -> tuple[str, str, str]:
        return self.node, self.num_nodes, self.leader


KINDS = (
    _Kind("torchrun", "GROUP_RANK", "GROUP_WORLD_SIZE", "MASTER_ADDR", "LOCAL_RANK"),
    _Kind("Slurm", "SLURM_NODEID", "SLURM_NNODES", "SLURM_JOB_NODELIST", "SLURM_LOCALID"),
    _Kind("a PyTorchJob of Kubernetes", "PET_NODE_RANK", "PET_NNODES", "PET_MASTER_ADDR"),
    _Kind("a process on each node", "RANK", "WORLD_SIZE", "MASTER_ADDR"),
)


def job_place(environment: Mapping[str, str] = os.environ) -> JobPlace:
    """The place of this process. Raises ProtegeError outside of a job."""
    for kind in KINDS:
        if all(environment.get(name) for name in kind.needed):
            return _place(kind, environment)
    known = "; ".join(f"{', '.join(kind.needed)} ({kind.name})" for kind in KINDS)
    raise ProtegeError(
        f"PROTEGE_TRAINING__HOSTS=job needs the variables of a job, and there are none: {known}. "
        "Start protege on every node of the job, or name the hosts: "
        "PROTEGE_TRAINING__HOSTS=gpu1,gpu2"
    )


def _place(kind: _Kind, environment: Mapping[str, str]) -> JobPlace:
    numbers = {}
    for name in (kind.node, kind.num_nodes):
        if not environment[name].isdigit():
            raise ProtegeError(f"{name}={environment[name]} of {kind.name} is no number of nodes")
        numbers[name] = int(environment[name])
    first = FIRST_OF_LIST.match(environment[kind.leader])
    if first is None:
        raise ProtegeError(f"{kind.leader}={environment[kind.leader]} names no machine")
    leader = "".join(part for part in first.groups() if part)
    leads_node = environment.get(kind.process, "0") == "0"
    return JobPlace(numbers[kind.node], numbers[kind.num_nodes], leader, leads_node)
