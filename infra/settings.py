"""Settings of the place where protege runs: what a cluster has and a laptop has not.

In: environment variables `PROTEGE_*`. Out: one frozen `Settings`. Nothing here changes a result,
so nothing here enters a fingerprint; what does stands in the options of the stages.
"""

from dataclasses import dataclass

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.devices import core_count, gpu_count


class Settings(BaseSettings):
    """Where outputs lie and which machines do the work."""

    model_config = SettingsConfigDict(env_prefix="PROTEGE_", frozen=True)

    root: str = Field("protege-output", description="Folder or s3:// prefix of all outputs.")
    scheduler: str = Field(
        "", description="Address of a running Dask scheduler; empty starts a local cluster."
    )
    workers: int = Field(
        0, ge=0, description="Processes of the local cluster; 0 is one per GPU, else per core."
    )
    train_processes: int = Field(
        0, ge=0, description="Training processes on this machine; 0 is one per GPU, else one."
    )
    lease_seconds: float = Field(
        60, ge=1, description="A run of which nothing is heard for so long is replaced by others."
    )

    patience_seconds: float = Field(
        3600, ge=0, description="How long a finished run waits for a Prefect server that is away."
    )
    home: str = Field(
        "~/.protege", description="Folder of the local server: its database, logs and processes."
    )
    database: str = Field(
        "", description="postgresql:// address of the server's database; empty is SQLite."
    )
    port: int = Field(4200, ge=1, le=65_535, description="Port of the server and its UI.")
    pages_port: int = Field(4201, ge=1, le=65_535, description="Port of the reports' pages.")
    pages: str = Field("", description="Address under which reports can be opened, if any.")
    notify: str = Field(
        "", description="Address that is told of failed runs, by HTTP POST; empty tells nobody."
    )

    def training(self) -> "Processes":
        """How many processes and threads a training gets."""
        count = self.train_processes or gpu_count() or 1
        return Processes(count, max(1, core_count() // count))


@dataclass(frozen=True)
class Processes:
    """Processes of a training, and the threads of each."""

    count: int
    threads: int
