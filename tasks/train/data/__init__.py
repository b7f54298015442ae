"""Data of a training job: batches in an order that is a pure function of the seed.

    samples = open_samples(output, classes)
    reader = BatchReader(samples, options, batch_size=256)
    batch = reader.read(step, rank=0, num_ranks=1)

samples.py   what a data set offers: encoded images and their targets, part by part
lessons.py   lessons, an output of `gather`
order.py     which sample stands at which position of the stream
views.py     from a decoded image to the pixels of a training sample
part_cache.py  the parts that a step needs, and the next ones, which are read meanwhile
reader.py    the batch of a step
"""

from collections.abc import Sequence

from infra.errors import ProtegeError
from tasks.contract import Output
from tasks.train.data.lessons import LessonSamples
from tasks.train.data.order import SampleOrder
from tasks.train.data.reader import Batch, BatchReader
from tasks.train.data.samples import Samples, Targets, cannot_learn_from

__all__ = [
    "Batch",
    "BatchReader",
    "SampleOrder",
    "Samples",
    "Targets",
    "cannot_learn_from",
    "open_samples",
]


def open_samples(data: Output, classes: Sequence[str]) -> Samples:
    """The data set in an output, with its classes as indices into `classes`.

    Raises ProtegeError when it is empty, or teaches a class that is none of these.
    """
    samples = LessonSamples(data, classes)
    if not sum(samples.part_rows):
        raise ProtegeError(f"{data.uri} has no images to train on")
    return samples
