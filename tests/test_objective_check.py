"""Checks of an objective: what looks at a whole batch needs a process for each virtual rank."""

import pytest

from infra.errors import ProtegeError
from infra.settings import Processes
from infra.store import Store
from tasks.contract import Output
from tasks.options import Length
from tasks.train import ContrastiveOptions, train
from tests.builders.trainings import SMALL

ONE_PROCESS = Processes(count=1, threads=1)
TWO_RANKS = SMALL.model_copy(
    update={"virtual_ranks": 2, "length": Length(amount=1, unit="steps"), "sync_batch_norm": True}
)


def test_each_virtual_rank_must_have_a_process(root: Store, lessons: Output) -> None:
    message = (
        r"each of its 2 virtual ranks needs a process of its own, and there are 1 training pro"
    )
    with pytest.raises(ProtegeError, match=f"sync_batch_norm looks at a whole batch.*{message}"):
        train(root, lessons, TWO_RANKS, processes=ONE_PROCESS)
    apart = TWO_RANKS.model_copy(update={"sync_batch_norm": False})
    with pytest.raises(ProtegeError, match=f"the objective contrastive looks at .*{message}"):
        train(root, lessons, apart, objective=ContrastiveOptions(), processes=ONE_PROCESS)


def test_one_virtual_rank_may_look_at_its_whole_batch(root: Store, lessons: Output) -> None:
    """Of more processes than virtual ranks, those that are left over are not started."""
    one = TWO_RANKS.model_copy(update={"virtual_ranks": 1})
    output = train(root, lessons, one, processes=Processes(count=2, threads=1))
    assert output.store.exists("weights.safetensors")
