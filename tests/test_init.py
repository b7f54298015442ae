"""Init: a training that starts from another model keeps what fits, and refuses what does not."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from infra.errors import ProtegeError
from infra.settings import Processes
from infra.store import Store
from tasks.contract import Output
from tasks.gather import GatherOptions, gather
from tasks.images import Inputs
from tasks.inference.weights import WEIGHTS, load_network, read_description
from tasks.options import Length
from tasks.shard import ShardOptions, shard
from tasks.train import train
from tasks.train.trainer import Trainer
from tests.builders.trainings import CLASSES, ONE, SMALL, job

PROCESSES = Processes(count=1, threads=1)
SHORT = SMALL.model_copy(update={"length": Length(amount=1, unit="steps")})


@pytest.fixture
def labelled(root: Store, pictures: Path) -> Output:
    images = shard(root, ShardOptions(source=str(pictures / "labelled"), labelled=True))
    return gather(root, images, options=GatherOptions(lessons_per_part=5))


def weights(folder: Path) -> bytes:
    return (folder / WEIGHTS).read_bytes()


def start_from(labelled: Output, init: Output, folder: Path, seed: int) -> dict[str, torch.Tensor]:
    """The weights at step 0 of a training with one more class, which starts from `init`."""
    options = SMALL.model_copy(update={"seed": seed, "length": Length(amount=0)})
    changes = {"classes": (*CLASSES, "teal"), "init": init, "init_head": "new"}
    trainer = Trainer(job(labelled, folder, options).model_copy(update=changes), ONE)
    trainer.run()
    trainer.finish()
    assert read_description(weights(folder)).classes == (*CLASSES, "teal")
    return safetensors.torch.load(weights(folder))


def test_new_head_comes_from_the_seed_and_the_features_from_init(
    root: Store, labelled: Output, tmp_path: Path
) -> None:
    short = SMALL.model_copy(update={"length": Length(amount=3, unit="steps")})
    init = train(root, labelled, short, classes=CLASSES, processes=PROCESSES)
    before = safetensors.torch.load(init.store.read(WEIGHTS))
    head = {"fc.weight", "fc.bias"}
    first, again, other = (
        start_from(labelled, init, tmp_path / str(number), seed)
        for number, seed in enumerate((0, 0, 1))
    )
    for name in before.keys() - head:
        assert torch.equal(first[name], before[name])
        assert torch.equal(other[name], before[name])
    assert first["fc.weight"].shape == (4, before["fc.weight"].shape[1])
    for name in head:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])


def test_new_head_is_trained_on_the_classes_of_the_data(root: Store, labelled: Output) -> None:
    short = SMALL.model_copy(update={"length": Length(amount=3, unit="steps")})
    others = ("red", "green", "blue", "teal")
    init = train(root, labelled, short, classes=others, processes=PROCESSES)
    output = train(root, labelled, short, init=init, init_head="new", processes=PROCESSES)
    assert output.classes == list(CLASSES)
    assert load_network(output)[1].classes == CLASSES
    kept = train(root, labelled, short, init=init, processes=PROCESSES)
    assert kept.classes == list(others), "those of the head that was kept"


def test_init_that_does_not_fit_is_refused_with_the_remedy(root: Store, labelled: Output) -> None:
    short = SMALL.model_copy(update={"length": Length(amount=1, unit="steps")})
    init = train(root, labelled, short, classes=CLASSES, processes=PROCESSES)
    for classes in (("blue", "green", "teal"), ("red", "green", "blue")):
        with pytest.raises(ProtegeError, match="pass init_head='new' to keep its features"):
            train(root, labelled, short, classes=classes, init=init, processes=PROCESSES)
    larger = short.model_copy(update={"model": "small_resnet_16"})
    with pytest.raises(ProtegeError, match="set model to small_resnet_8"):
        train(root, labelled, larger, init=init, processes=PROCESSES)


def test_init_with_other_inputs_is_refused_with_both(root: Store, labelled: Output) -> None:
    """Its features mean nothing at another scale, and the weights would say the wrong one."""
    init = train(root, labelled, SHORT, classes=CLASSES, processes=PROCESSES)
    inputs = Inputs(**{**dict(SHORT.inputs), "pixels": "imagenet"})
    other = SHORT.model_copy(update={"inputs": inputs})
    with pytest.raises(ProtegeError) as error:
        train(root, labelled, other, init=init, processes=PROCESSES)
    assert f"was trained with other inputs ({SHORT.inputs})" in str(error.value)
    assert f"than those of the options ({inputs}): set the same" in str(error.value)


def test_another_size_of_the_same_pictures_goes_on(root: Store, labelled: Output) -> None:
    init = train(root, labelled, SHORT, classes=CLASSES, processes=PROCESSES)
    larger = SHORT.continued(SHORT, size=24)
    assert (larger.inputs.size, larger.inputs.resize) == (24, 24)
    output = train(root, labelled, larger, init=init, processes=PROCESSES)
    assert load_network(output)[1].inputs.size == 24
