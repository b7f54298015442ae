"""Answers: what a model says of many images, one after the other, whatever becomes of any of them.

In: a model and encoded pictures. Out: an `Answer` for each, in their order. Memory holds a few
batches, however many pictures there are.

    for answer in answers(model, read_pictures(listing), top_k=5, batch_size=64): ...
"""

import functools
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tasks.images import Pixels, Unusable
from tasks.inference.model import Model, Prediction
from tasks.inference.sources import EncodedPicture


@dataclass(frozen=True)
class Answer:
    """The most probable classes of an image, or the problem for which there are none."""

    path: str
    prediction: Prediction | None
    problem: Unusable | None = None


@dataclass
class Tally:
    """How many images there were, and how many of them could not be used, by reason."""

    images: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        self.images += 1
        if answer.problem is not None:
            self.reasons[answer.problem.reason] += 1

    @property
    def unusable(self) -> int:
        """Images without an answer."""
        return self.reasons.total()

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {reason}" for reason, count in self.reasons.most_common())
        return f"{self.images:,} images" + (f", of which no use: {counts}" if counts else "")


def answers(
    model: Model, pictures: Iterable[EncodedPicture], *, top_k: int, batch_size: int
) -> Iterator[Answer]:
    """The `top_k` most probable classes of each picture, or what keeps it from being used."""
    paths: deque[str] = deque()

    def with_noted_paths() -> Iterator[EncodedPicture]:
        for picture in pictures:
            paths.append(picture.path)
            yield picture

    decode = functools.partial(_decode, model)
    for batch in model.run(with_noted_paths(), decode, batch_size=batch_size):
        predictions = model.most_probable(batch.outputs_BC, top_k)
        for row, prediction in enumerate(predictions, batch.first):
            problem = batch.problems.get(row)
            yield Answer(paths.popleft(), None if problem else prediction, problem)


def _decode(model: Model, picture: EncodedPicture) -> Pixels:
    """The network's input. Raises Unusable."""
    if picture.problem is not None:
        raise picture.problem
    return model.decode(picture.data)
