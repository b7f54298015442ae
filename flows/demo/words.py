"""Words: made-up tags, as people put them beside pictures: some have none, and some are wrong.

In: the class of a picture, and a generator. Out: the words beside it, which it alone decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WRONG_SHARE, OTHER_SHARE = 0.1, 1 / 3


@dataclass(frozen=True)
class Words:
    """The words for each class, and those that say nothing.

    A share of the pictures of each class has one of its words, which for one in ten is a word of
    any class; `unknown_share` is that of pictures of no class, whose words are all of any class.
    Every third picture has one of the words that say nothing.
    """

    names: Mapping[str, Sequence[str]]
    named_shares: Mapping[str, float]
    others: Sequence[str]
    unknown_share: float = 0

    def beside(self, label: str, rng: np.random.Generator) -> list[str]:
        """The words beside one picture."""
        classes, words = list(self.names), []
        if rng.random() < self.named_shares.get(label, self.unknown_share):
            is_meant = label in self.names and rng.random() >= WRONG_SHARE
            meant = label if is_meant else classes[rng.integers(len(classes))]
            words.append(str(rng.choice(self.names[meant])))
        if rng.random() < OTHER_SHARE:
            words.append(str(rng.choice(self.others)))
        return words

    def table(self) -> str:
        """Which word means which class, as a CSV."""
        pairs = [f"{word},{name}" for name, words in self.names.items() for word in words]
        return "\n".join(["tag,class", *pairs]) + "\n"
