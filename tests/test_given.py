"""Given weights: mapped to the classes of the images by name, or refused before any work."""

import io
import json
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given as given_property
from hypothesis import settings
from hypothesis import strategies as st

from infra.errors import ProtegeError
from infra.settings import Processes
from infra.store import Store
from models.registry import build
from tasks.contract import Output
from tasks.images import Inputs
from tasks.inference.weights import (
    Description,
    load_network,
    parse_network,
    save_weights,
)
from tasks.options import Length
from tasks.train import TrainOptions, train
from tasks.train.options import Start
from tasks.train.start.source import Source
from tests.builders.trainings import CLASSES, SMALL

ONE = Processes(count=1, threads=1)
IMAGES_BCHW = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def given(path: Path, **changes: Any) -> TrainOptions:
    """Weights that are used as they are; `changes` are those of the section `start`."""
    start = Start(weights=str(path), **changes)
    return SMALL.model_copy(update={"start": start, "length": Length()})


def network_of(num_classes: int) -> torch.nn.Module:
    torch.manual_seed(1)
    return build("small_resnet_8", num_classes).eval()


def taken(root: Store, lessons: Output, options: TrainOptions) -> torch.Tensor:
    """The logits of the network that a training makes of given weights."""
    output = train(root, lessons, options, processes=ONE)
    assert output.classes == list(CLASSES)
    with torch.no_grad():
        logits_BC: torch.Tensor = load_network(output)[0](IMAGES_BCHW)
    return logits_BC


def test_weights_of_ours_are_mapped_by_the_names_of_their_classes(
    root: Store, lessons: Output, tmp_path: Path
) -> None:
    theirs = ("red", "teal", "green", "blue")
    network = network_of(len(theirs))
    description = Description("small_resnet_8", theirs, SMALL.inputs)
    (tmp_path / "w.safetensors").write_bytes(save_weights(network, description))
    logits_BC = taken(root, lessons, given(tmp_path / "w.safetensors"))
    columns = [theirs.index(name) for name in CLASSES]
    with torch.no_grad():
        torch.testing.assert_close(logits_BC, network(IMAGES_BCHW)[:, columns])


def test_weights_of_others_have_the_classes_that_are_said(
    root: Store, lessons: Output, tmp_path: Path
) -> None:
    network = network_of(3)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "w.pth")
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n", encoding="utf-8")
    with torch.no_grad():
        expected_BC = network(IMAGES_BCHW)
    same = given(tmp_path / "w.pth", classes="labelled")
    torch.testing.assert_close(taken(root, lessons, same), expected_BC)
    said = given(tmp_path / "w.pth", classes=str(tmp_path / "names.txt"))
    torch.testing.assert_close(taken(root, lessons, said), expected_BC.flip(1))


def ours(**changes: Any) -> bytes:
    values = {"model": "small_resnet_8", "classes": CLASSES, "inputs": SMALL.inputs, **changes}
    return save_weights(network_of(len(values["classes"])), Description(**values))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "other classes": (
        lambda: ours(classes=("ant", "bee", "cat")),
        "their classes are ant, bee, cat, and those of the images are blue, green, red",
    ),
    "other network": (lambda: ours(model="small_resnet_16"), "set options.model=small_resnet_16"),
    "other inputs": (
        lambda: ours(inputs=Inputs(size=28, resize=28)),
        r"set options.inputs.size=28 \(now 16\), options.inputs.resize=28 \(now 16\), options.inp",
    ),
    "nobody says the classes": (
        lambda: safetensors.torch.save(network_of(3).state_dict()),
        "do not say what their classes are: set options.start.head to linear or new",
    ),
    "no weights": (lambda: b"<html>404</html>", "no weights in the safetensors format"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_weights_that_do_not_fit_are_refused_before_any_process_starts(
    root: Store, lessons: Output, tmp_path: Path, what: str
) -> None:
    make, sentence = REFUSED[what]
    (tmp_path / "w.safetensors").write_bytes(make())
    with pytest.raises(ProtegeError, match=sentence):
        train(root, lessons, given(tmp_path / "w.safetensors"), processes=ONE)
    assert not root.sizes("train")


def test_weights_for_another_number_of_classes_are_refused(
    root: Store, lessons: Output, tmp_path: Path
) -> None:
    torch.save(network_of(7).state_dict(), tmp_path / "w.pth")
    options = given(tmp_path / "w.pth", classes="labelled")
    with pytest.raises(ProtegeError, match="do not fit the model: 2 of another shape"):
        train(root, lessons, options, processes=ONE)


def pickled(content: object) -> bytes:
    sink = io.BytesIO()
    torch.save(content, sink)
    return sink.getvalue()


STATE = network_of(3).state_dict()
LOADED = {
    "model and epoch": {"model": STATE, "epoch": 3, "best": 1.0},
    "model_state_dict": {"model_state_dict": STATE, "optimizer": {"state": {}}},
    "compiled and wrapped": {
        "state_dict": {f"module._orig_mod.{key}": tensor for key, tensor in STATE.items()}
    },
    "average first": {
        "state_dict": {key: tensor + 1 for key, tensor in STATE.items()},
        "state_dict_ema": STATE,
    },
    "name of the model beside": {"model": "small_resnet_8", "state_dict": STATE},
    "one in the other": {"state_dict": {"model": STATE}},
}


@pytest.mark.parametrize("name", LOADED)
def test_usual_envelopes_and_prefixes_are_opened__and_said(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "w.pth").write_bytes(pickled(LOADED[name]))
    network = build("small_resnet_8", 3)
    Source(str(tmp_path / "w.pth")).load_into(network, keep_head=True)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, STATE[key])
    assert "the weights were under '" in caplog.text
    if "wrapped" in name:
        assert "all their keys began with 'module._orig_mod.'" in caplog.text


UNREADABLE = {
    "list": (pickled([STATE]), "this one holds a list"),
    "number": (pickled(7), "this one holds a int"),
    "nothing": (pickled({}), "this one holds an empty dict"),
    "whole network": (
        pickled(network_of(3)),
        "beside the weights, which would have to be executed",
    ),
    "arguments": (pickled({"model": STATE, "args": Namespace(lr=1)}), "holds a argparse.Namespace"),
    "numpy": (pickled({"model": STATE, "best": np.float64(1)}), "Save the weights alone"),
    "cut": (pickled(STATE)[:-2_000], "it is no file of weights, or a damaged one"),
    "cut early": (pickled(STATE)[:30], "it is no file of weights, or a damaged one"),
    "empty": (b"", "it is no file of weights, or a damaged one"),
    "page": (b"<html>404</html>", "it is no file of weights, or a damaged one"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_every_other_file_is_one_sentence_with_the_remedy(tmp_path: Path, name: str) -> None:
    data, sentence = UNREADABLE[name]
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(ProtegeError, match=sentence) as caught:
        Source(str(tmp_path / "w.pth")).load_into(build("small_resnet_8", 3), keep_head=True)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("place", ["missing.pth", "."])
def test_place_without_weights_is_said(
    root: Store, lessons: Output, tmp_path: Path, place: str
) -> None:
    with pytest.raises(ProtegeError, match=r"there is no file .*; give the path"):
        train(root, lessons, given(tmp_path / place), processes=ONE)


def damaged(change: Any) -> bytes:
    """Weights of ours whose header says something else."""
    data = ours()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def described(**changes: Any) -> Any:
    def change(header: dict[str, Any]) -> None:
        body = json.loads(header["__metadata__"]["protege"])
        body = {key: value for key, value in {**body, **changes}.items() if value is not None}
        header["__metadata__"]["protege"] = json.dumps(body)

    return change


DAMAGED = {
    "no classes": described(classes=None),
    "no inputs": described(inputs=None),
    "other inputs": described(inputs={"size": "large"}),
    "unknown network": described(model="resnet_of_mars"),
    "other number of classes": described(classes=["a"]),
    "no description": lambda header: header.pop("__metadata__"),
    "no text": lambda header: header["__metadata__"].update(protege="{"),
    "other tensors": lambda header: header.pop("fc.bias"),
    "other type": lambda header: header["fc.bias"].update(dtype="F99"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_weights_of_ours_that_are_damaged_are_one_sentence(name: str) -> None:
    with pytest.raises(ProtegeError) as caught:
        parse_network(damaged(DAMAGED[name]))
    assert len(str(caught.value)) < 500


@settings(max_examples=200)
@given_property(st.integers(0, 2_000), st.binary(min_size=1, max_size=6))
def test_weights_with_any_other_bytes_load_or_are_refused(at: int, data: bytes) -> None:
    weights = ours()
    with suppress(ProtegeError):
        parse_network(weights[:at] + data + weights[at + len(data) :])
