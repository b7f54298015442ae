"""Job: what every task of the stage is given."""

from dataclasses import dataclass

from tasks.contract import Output
from tasks.gather.options import GatherOptions
from tasks.gather.subset import Share


@dataclass(frozen=True)
class GatherJob:
    """What every worker of this stage is given."""

    uri: str
    options: GatherOptions
    images: Output
    chosen: Output | None
    classes: tuple[str, ...]
    soft_labels: Output | None = None
    """The scores that say how much an image is of each class, instead of the class it is for."""
    dropped_classes: frozenset[str] = frozenset()
    """Classes whose chosen images are not taken."""
    share: Share | None = None
    """A share of the labelled images, for a member of a committee."""
