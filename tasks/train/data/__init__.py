"""Data of a training job: batches in an order that is a pure function of the seed.

    samples = open_samples(output, classes)
    reader = BatchReader(samples, options, batch_size=256)
    for batch in prefetch(lambda step: reader.read(step, rank=0, world_size=1), range(100)):
        ...

samples.py   what every kind of data set offers: encoded images and their targets, part by part
labelled.py  labelled images, an output of `shard`
lessons.py   lessons, an output of `gather`
order.py     which sample stands at which position of the stream
views.py     from a decoded image to the pixels of a training sample
reader.py    the batch of a step
prefetch.py  the next batches, prepared while the network works
"""

from collections.abc import Callable, Mapping, Sequence

from infra.errors import ProtegeError
from tasks.contract import Output
from tasks.train.data.labelled import LabelledSamples
from tasks.train.data.lessons import LessonSamples
from tasks.train.data.order import epoch_order
from tasks.train.data.prefetch import prefetch
from tasks.train.data.reader import Batch, BatchReader
from tasks.train.data.samples import Samples, Targets

# The stage of an output says which kind of data set it is.
KINDS: Mapping[str, Callable[[Output, Sequence[str]], Samples]] = {
    "shard": LabelledSamples,
    "gather": LessonSamples,
}

__all__ = [
    "KINDS",
    "Batch",
    "BatchReader",
    "Samples",
    "Targets",
    "epoch_order",
    "open_samples",
    "prefetch",
]


def open_samples(data: Output, classes: Sequence[str]) -> Samples:
    """The data set in an output, with its classes as indices into `classes`.

    Raises ProtegeError when it is empty or no data set.
    """
    if data.stage not in KINDS:
        raise ProtegeError(
            f"{data.uri} is an output of {data.stage}, which cannot be trained on; give an output "
            f"of {' or '.join(KINDS)}"
        )
    samples = KINDS[data.stage](data, classes)
    if not sum(samples.part_rows):
        raise ProtegeError(f"{data.uri} has no images to train on")
    return samples
