"""Options of recipes that belong to no stage; read without loading Prefect."""

from typing import ClassVar, Literal

from tasks.options import Options


class ApprovalOptions(Options):
    """When a run waits for a person."""

    NOT_IN_FINGERPRINT: ClassVar[frozenset[str]] = frozenset({"before"})

    before: Literal["nothing", "score", "student"] = "nothing"
    """The stage before which the run waits until somebody approves what it is about to cost."""
