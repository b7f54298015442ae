"""Settings of the place where protege runs: storage, machines and the Prefect server.

In: environment variables, `PROTEGE_ROOT` or, for a field of a section, `PROTEGE_DASK__ADDRESS`.
Out: one frozen `Settings`. No setting changes a result, so none enters a fingerprint; what changes
a result is an option of a stage.

    settings = Settings()
    settings.dask.workers
"""

import difflib
import os
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.devices import core_count, gpu_count

PREFIX = "PROTEGE_"
# No settings, but options of recipes, variables that our processes set for each other, and tests.
OTHER_PREFIXES = ("PROTEGE_OPTION__", "PROTEGE_INTERNAL_", "PROTEGE_TEST_")


JOB = "job"  # in place of hosts: the nodes of the job that protege was started in


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DaskSettings(_Section):
    """The Dask cluster that runs the work of a stage."""

    address: str = Field("", description="Address of a running scheduler; empty starts a cluster.")
    plain: bool = Field(
        False, description="Allow a scheduler of another machine without TLS (tcp://)."
    )
    workers: int = Field(
        0,
        ge=0,
        description="Processes of a local cluster, beside one per GPU; 0 is one per core and GiB.",
    )


class TrainingSettings(_Section):
    """The processes of a training, and the machines that they run on."""

    processes: int = Field(
        0, ge=0, description="Training processes of each machine; 0 is one per GPU, else one."
    )
    hosts: str = Field(
        "", description="Hosts with commas, by SSH; job for those of a job; empty is this machine."
    )
    address: str = Field(
        "", description="Address at which the hosts reach the first; empty is how SSH reached it."
    )
    meeting_port: int = Field(
        4203, ge=1, le=65_535, description="Port of the first node, where those of a job meet."
    )
    ssh: str = Field(
        "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15",
        description="Program that runs a command on a host, with the options for it.",
    )
    python: str = Field("", description="Python of the hosts; empty is the path of this one.")


class MetricsSettings(_Section):
    """Where the metrics of a training go besides `metrics.jsonl`."""

    writers: str = Field(
        "", description="Formats with commas: tensorboard, mlflow, wandb (offline); empty is none."
    )
    folder: str = Field("protege-metrics", description="Folder of what these writers write.")


class LeaseSettings(_Section):
    """The lease of an output, which keeps two runs from making it at the same time."""

    seconds: float = Field(
        60, ge=1, description="Another run takes over after so many seconds without a renewal."
    )


class ServerSettings(_Section):
    """The Prefect server of `protege up`, and how a run uses a server."""

    home: str = Field(
        "~/.protege", description="Folder of its database, its logs and the list of its processes."
    )
    database: str = Field("", description="postgresql:// address of its database; empty is SQLite.")
    port: int = Field(4200, ge=1, le=65_535, description="Port of the server and its UI.")
    reports_port: int = Field(4201, ge=1, le=65_535, description="Port of the reports.")
    reports_url: str = Field("", description="Address under which a browser opens reports, if any.")
    notify: str = Field(
        "", description="Address to notify of failed runs, by HTTP POST; empty notifies nobody."
    )
    wait_seconds: float = Field(
        3600, ge=0, description="How long a finished run waits for a server that does not answer."
    )


class Settings(BaseSettings):
    """Where outputs lie and which machines do the work."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", frozen=True)

    root: str = Field("protege-output", description="Folder or s3:// prefix of all outputs.")
    sources: str = Field(
        "", description="Folders and s3:// prefixes of all sources, with commas; empty allows any."
    )
    executor: Literal["dask", "threads", "inline"] = Field(
        "dask", description="Who runs the work of a stage: a Dask cluster, or this process."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks compute; auto is every GPU that torch can use."
    )
    dask: DaskSettings = DaskSettings()
    training: TrainingSettings = TrainingSettings()
    metrics: MetricsSettings = MetricsSettings()
    lease: LeaseSettings = LeaseSettings()
    server: ServerSettings = ServerSettings()

    @model_validator(mode="before")
    @classmethod
    def _every_variable_is_known(cls, values: Any) -> Any:
        known = variables()
        for name in sorted(os.environ):
            ours = name.startswith(PREFIX) and not name.startswith(OTHER_PREFIXES)
            if ours and name.upper() not in known:
                raise ValueError(_unknown(name, known))
        return values

    def training_processes(self) -> "Processes":
        """How many processes and threads a training gets."""
        count = self.training.processes or gpu_count() or 1
        return Processes(count, max(1, core_count() // count))


@dataclass(frozen=True)
class Processes:
    """Processes of a training, and the threads of each."""

    count: int
    threads: int


def variables() -> list[str]:
    """The name of every setting, as an environment variable."""
    names = []
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            names += [f"{PREFIX}{name}__{inner}".upper() for inner in section.model_fields]
        else:
            names.append(f"{PREFIX}{name}".upper())
    return names


def _unknown(name: str, known: list[str]) -> str:
    field = name.upper().removeprefix(PREFIX)
    same_field = [other for other in known if other.endswith(f"__{field}")]
    close = same_field or difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.8)
    if close:
        return f"{name} is no setting; did you mean {close[0]}?"
    return f"{name} is no setting; there are: {', '.join(known)}"
