"""memory: what is said to somebody whose training had not the memory for its own images."""

import re

from hypothesis import given
from hypothesis import strategies as st

from infra.devices import memory_limit
from tasks.images import Inputs
from tasks.train import TrainOptions
from tasks.train.memory import describe_fit, largest_share, memory_remedy


@given(st.integers(1, 500), st.integers(0, 600))
def test_share_is_the_largest_that_divides_the_batch(batch_size: int, limit: int) -> None:
    share = largest_share(batch_size, limit)
    assert share <= limit
    assert share == 0 or batch_size % share == 0
    assert all(batch_size % more for more in range(share + 1, min(limit, batch_size) + 1))


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 10_000))
def test_what_is_proposed_is_accepted_and_takes_half_at_most(
    ranks: int, images: int, fitting: int
) -> None:
    options = TrainOptions(batch_size=ranks * images, virtual_ranks=ranks)
    text = describe_fit(options, fitting)
    proposed = re.search(r"options\.virtual_ranks=(\d+)", text)
    if proposed is None:
        assert "lower options.inputs.size" in text
        assert min(fitting, images // 2) == 0
        return
    changed = TrainOptions(batch_size=ranks * images, virtual_ranks=int(proposed[1]))
    at_once = changed.batch_size // changed.num_virtual_ranks
    assert at_once <= min(fitting, images // 2)
    assert f"at most {at_once:,} would fit" in text


def test_cost_model_says_how_many_images_fit() -> None:
    inputs = Inputs(size=224, resize=256)
    large = TrainOptions(model="resnet50", batch_size=4096, virtual_ranks=1, inputs=inputs)
    text = memory_remedy(large, num_classes=1000, processes=1)
    fitting = re.search(r"at most ([\d,]+) would fit", text)
    assert fitting is not None
    # An image of 224 pixels takes a resnet50 about 0.2 GiB.
    images = int(fitting[1].replace(",", ""))
    assert 0.02 < images / (memory_limit() / (1 << 30)) < 20
    assert memory_remedy(large, num_classes=1000, processes=8) != text
