"""Memory: how many images a training can compute at once, when it had not the memory for its own.

In: the options of a training that ran out of memory. Out: a sentence with the option that would
fit, by the cost model (tasks/cost.py) or, where that says that these should have fitted, by half.
"""

from infra.devices import gpu_count, gpu_memory, memory_limit
from tasks.train.options import TrainOptions

USABLE_SHARE = 0.8  # of the memory: the rest is for what else runs


def memory_remedy(options: TrainOptions, num_classes: int, processes: int) -> str:
    """What to set so that a virtual rank fits, in so many processes of this machine; 0 is others.

    How much memory other machines have is not known, and half of the images are a good guess.
    """
    if not processes:
        return describe_fit(options, options.batch_size)
    # Imported here: the cost model reads the options of this package.
    from tasks.cost import PROCESS_BYTES, step_costs

    cost = step_costs({"training": options}, num_classes, measure=False)["training"]
    if gpu_count():
        usable = USABLE_SHARE * gpu_memory() + PROCESS_BYTES
    else:
        waiting = cost.waiting_bytes(options.batch_size)
        usable = (USABLE_SHARE * memory_limit() - waiting) / processes
    return describe_fit(options, cost.fitting_images(int(usable)))


def describe_fit(options: TrainOptions, fitting: int) -> str:
    """The sentence, for so many images that fit by the cost model."""
    at_once = options.batch_size // options.num_virtual_ranks
    # It had not the memory for its own, whatever the model says.
    images = largest_share(options.batch_size, min(fitting, at_once // 2))
    if not images:
        return f"Not even 1 image at once would fit: lower options.inputs.size ({at_once} now)"
    ranks = options.batch_size // images
    return (
        f"A virtual rank has {at_once:,} images, and at most {images:,} would fit: set "
        f"options.virtual_ranks={ranks}"
    )


def largest_share(batch_size: int, limit: int) -> int:
    """The most images of equal shares of a batch that are no more than the limit; 0 for none."""
    return max((size for size in range(1, limit + 1) if batch_size % size == 0), default=0)
