"""ONNX: a teacher of any other program is a network like all others, and answers what it did."""

from pathlib import Path

import numpy as np
import pytest
import torch

from infra.errors import ProtegeError
from infra.settings import Processes
from infra.store import Store
from models.registry import build
from tasks.contract import Output
from tasks.inference.weights import load_network
from tasks.options import Length
from tasks.train import TrainOptions, train
from tasks.train.options import Start
from tests.builders.trainings import CLASSES, SMALL

onnx = pytest.importorskip("onnx", reason="the package onnx, of the extra onnx")
pytest.importorskip("onnxruntime", reason="the package onnxruntime, of the extra onnx")

ONE = Processes(count=1, threads=1)
OUTPUTS = ("red", "teal", "green", "blue")
WEIGHT_CD = np.array([[9, -1, -1], [0, 4, 5], [-1, 9, -1], [-1, -1, 9]], np.float32)


def write_network(path: Path, *, batch: int | str = "batch", softmax: bool = False) -> Path:
    """A file whose logits are a linear layer on the mean colour; with softmax, probabilities."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["means"]),
        helper.make_node("Flatten", ["means"], ["colours"]),
        helper.make_node("MatMul", ["colours", "weight"], ["logits"]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["answers"], axis=1))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, 16, 16])
    name = "answers" if softmax else "logits"
    answers = helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, len(OUTPUTS)])
    weight = numpy_helper.from_array(WEIGHT_CD.T.copy(), "weight")
    graph = helper.make_graph(nodes, "teacher", [pixels], [answers], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def teacher(path: Path, head: str = "keep", **start: str) -> TrainOptions:
    begin = Start.model_validate({"weights": str(path), "head": head, **start})
    return SMALL.model_copy(update={"model": "onnx", "start": begin, "length": Length()})


@pytest.fixture
def names(tmp_path: Path) -> str:
    (tmp_path / "names.txt").write_text("\n".join(OUTPUTS))
    return str(tmp_path / "names.txt")


def logits_of(output: Output) -> torch.Tensor:
    images_BCHW = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    logits_BC: torch.Tensor = load_network(output)[0](images_BCHW)
    return logits_BC


def expected_logits() -> torch.Tensor:
    images_BCHW = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    columns = [OUTPUTS.index(name) for name in CLASSES]
    return (images_BCHW.mean(dim=(2, 3)) @ torch.from_numpy(WEIGHT_CD).T)[:, columns]


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_answers_are_those_of_the_file_by_the_names_of_its_classes(
    root: Store, lessons: Output, tmp_path: Path, names: str, batch: int | str
) -> None:
    path = write_network(tmp_path / "teacher.onnx", batch=batch)
    output = train(root, lessons, teacher(path, classes=names), processes=ONE)
    torch.testing.assert_close(logits_of(output), expected_logits(), rtol=1e-4, atol=1e-4)


def test_probabilities_rank_as_their_logits_do(
    root: Store, lessons: Output, tmp_path: Path, names: str
) -> None:
    path = write_network(tmp_path / "teacher.onnx", softmax=True)
    output = train(root, lessons, teacher(path, classes=names), processes=ONE)
    found_BC, expected_BC = logits_of(output), expected_logits()
    torch.testing.assert_close(found_BC.diff(dim=1), expected_BC.diff(dim=1), rtol=1e-3, atol=1e-3)


def test_outputs_without_classes_are_features_of_a_linear_head(
    root: Store, lessons: Output, tmp_path: Path
) -> None:
    path = write_network(tmp_path / "teacher.onnx")
    output = train(root, lessons, teacher(path, "linear"), processes=ONE)
    [row] = output.table("history").to_pylist()
    assert dict(row["measurements"])["held_out_accuracy"] > 0.8
    assert logits_of(output).shape == (5, len(CLASSES))


def test_what_cannot_be_taken_is_said(
    root: Store, lessons: Output, tmp_path: Path, names: str
) -> None:
    path = write_network(tmp_path / "teacher.onnx")
    options = teacher(path, classes=names)
    larger = options.model_copy(update={"inputs": SMALL.inputs.model_copy(update={"size": 8})})
    with pytest.raises(ProtegeError, match="cannot run it on images of 8 pixels"):
        train(root, lessons, larger, processes=ONE)
    with pytest.raises(ProtegeError, match="have 4 outputs, and 3 classes are named"):
        train(root, lessons, teacher(path, classes="labelled"), processes=ONE)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(ProtegeError, match="cannot be used: onnxruntime cannot run it"):
        train(root, lessons, teacher(path, classes=names), processes=ONE)


def test_a_file_cannot_be_trained() -> None:
    start = Start(weights="teacher.onnx", head="new")
    with pytest.raises(ValueError, match=r"model onnx cannot be trained: .*start\.head=linear"):
        TrainOptions(model="onnx", start=start)
    with pytest.raises(ValueError, match=r"start\.weights must be a file \.onnx"):
        TrainOptions(model="onnx", start=Start(weights="w.pth"), length=Length())
    with pytest.raises(ValueError, match="is a file of onnx: set model=onnx"):
        TrainOptions(model="resnet18", start=Start(weights="w.onnx"), length=Length())


def test_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "models.networks.onnx_network", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'protege\[onnx\]'"):
        build("onnx", 3)
