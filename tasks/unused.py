"""Unused: what a source has that became no image, by reason and by the ending of the names.

In: an output. Out: the files of other kinds that were passed over, and the rejects.

    unused_of(images).reasons["damaged"]      # {".jpg": 3}
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.contract import Output
from tasks.shard.sources import describe_passed_over


@dataclass(frozen=True)
class Unused:
    """Counts by ending: of what was passed over, and of the rejects of each reason.

    Rejects that were checked once more are among them.
    """

    passed_over: Mapping[str, int]
    reasons: Mapping[str, Mapping[str, int]]

    @property
    def num_passed_over(self) -> int:
        """Files of another kind than images; they are no rejects."""
        return sum(self.passed_over.values())

    @property
    def passed_over_text(self) -> str:
        """`7,858 .ogg, 952 .txt`; empty when there were none."""
        return describe_passed_over(self.passed_over)

    @property
    def reason_texts(self) -> dict[str, tuple[int, str]]:
        """(count, `3 .jpg, 1 .png`) of each reason."""
        return {
            reason: (sum(endings.values()), describe_passed_over(endings))
            for reason, endings in self.reasons.items()
        }


def unused_of(output: Output) -> Unused:
    """What an output has not used. Only the stage shard passes files over."""
    return Unused(output.body["extra"].get("passed_over", {}), output.body["reasons"])
