"""Options of the stage `agreement`."""

from pydantic import Field

from tasks.options import Options


class CommitteeOptions(Options):
    """Networks that say, without a label of the pile, how right the choice of each class is."""

    members: int = Field(5, ge=0, le=50)
    """So many networks, each trained on another share of the labelled images; 0 asks nobody."""
    percent: float = Field(80, ge=1, le=99)
    """The share of the labelled images of each class that a member learns from."""
    sample: int = Field(60, ge=1, le=10_000)
    """Chosen images of each class that they are asked about, from the best rank to the last."""
    min_precision: float = Field(0, ge=0, le=1)
    """Classes whose estimate is lower are dropped, and not learned from the pile; 0 drops none."""
    batch_size: int = Field(256, ge=1, le=65_536)
    """Images that a member looks at together."""


class AskOptions(Options):
    """What decides the answers of members that are trained already."""

    sample: int
    batch_size: int

    @staticmethod
    def of(options: CommitteeOptions) -> "AskOptions":
        """Those of a committee."""
        return AskOptions(sample=options.sample, batch_size=options.batch_size)
