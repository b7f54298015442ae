"""Choice: an output of topk as the page shows it, with what it was made from.

In: the output and its inputs. Out: its options and tables, read when they are first needed.
"""

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from tasks.contract import Output
from tasks.topk import TopkOptions, read_chosen, read_classes


@dataclass(frozen=True)
class Choice:
    """The chosen images of all classes; `images` are those that they were chosen from."""

    role: str
    output: Output
    scores: tuple[Output, ...]
    teachers: tuple[Output, ...]
    images: Output

    @cached_property
    def options(self) -> TopkOptions:
        """How the images were chosen."""
        return TopkOptions.model_validate(self.output.options)

    @property
    def k(self) -> int:
        """Images wanted for each class."""
        return self.options.k

    @property
    def by_score(self) -> bool:
        """Whether the candidates with the highest scores were chosen."""
        return not self.options.rules.random

    @property
    def across_classes(self) -> bool:
        """Whether all classes competed with one another, so that none has K places."""
        return self.options.rules.across_classes

    @property
    def can_be_certified(self) -> bool:
        """Whether the mode says of a class that its choice is exact."""
        return self.options.rules.certification != "never"

    @property
    def chosen_phrase(self) -> str:
        """What was chosen, in a few words: `the 100 it was surest of`."""
        rules, count = self.options.rules, f"{self.output.kept:,}"
        return rules.chosen.format(count=count, options=self.options)

    @property
    def candidate_phrase(self) -> str:
        """What makes an image a candidate: `carry its tag`."""
        return self.options.rules.candidacy.format(options=self.options)

    @cached_property
    def classes(self) -> pa.Table:
        """The `classes` table."""
        return read_classes(self.output)

    @cached_property
    def chosen(self) -> pa.Table:
        """The `chosen` table."""
        return read_chosen(self.output)
