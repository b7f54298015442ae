"""export: a model in the formats of others, read back by their libraries; whole folders or none."""

import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import protege as pg
from infra.errors import ProtegeError
from infra.store import Store, open_store
from models.network import Network
from models.precision import computing_in
from tasks.export import FORMATS, export
from tasks.export.check import BATCH_SIZES, TOLERANCE, check_answers
from tasks.export.formats import onnx_graph
from tasks.images import Inputs
from tasks.inference.model import Model, load_model
from tasks.inference.weights import Description
from tests.builders.exported import close, images_of, logits_of
from tests.builders.models import CLASSES, model
from tests.builders.waiting import EVENT_SECONDS

ROOT = Path(__file__).parents[1]
NEEDS_ONNX = pytest.mark.skipif(
    any(find_spec(name) is None for name in onnx_graph.PACKAGES),
    reason="onnx, onnxscript and onnxruntime are not installed",
)
RUN_ALONE = """
import sys, torch
program = torch.export.load(sys.argv[1]).module()
torch.save(program(torch.load(sys.argv[2])), sys.argv[3])
assert not {"tasks", "models", "protege"} & {name.partition(".")[0] for name in sys.modules}
"""


@pytest.fixture
def small(root: Store) -> Model:
    """A network without a place in timm."""
    return load_model(model(root))


@pytest.fixture
def resnet(root: Store) -> Model:
    """One that timm has, too."""
    return load_model(model(root, "resnet18"))


class OddNetwork(Network):
    """A network that no graph can stand for, in one of two ways."""

    HEAD = "fc"

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.fc = nn.Linear(3, len(CLASSES))

    def features(self, images_BCHW: Tensor) -> Tensor:
        features_BD = images_BCHW.mean(dim=(2, 3))
        if self.way == "random":
            return features_BD + torch.rand_like(features_BD)
        return features_BD.reshape(3, 3)


def odd_model(way: str) -> Model:
    description = Description("odd", CLASSES, Inputs(size=16, resize=16))
    return Model(OddNetwork(way).eval(), description, torch.device("cpu"))


def input_by(notes: dict[str, Any], path: Path) -> np.ndarray[Any, Any]:
    """The network's input from preprocessing.json alone, with Pillow and numpy."""
    assert (notes["interpolation"], notes["antialias"], notes["crop"]) == (
        "bilinear",
        True,
        "center",
    )
    image = Image.open(path).convert(notes["channel_order"])
    scale = notes["resize"] / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - notes["size"]) // 2, (height - notes["size"]) // 2
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    image = image.crop((left, top, left + notes["size"], top + notes["size"]))
    pixels_HWC = (np.asarray(image) * notes["scale"] - notes["mean"]) / notes["std"]
    images_1CHW: np.ndarray[Any, Any] = pixels_HWC.transpose(2, 0, 1)[None].astype(notes["dtype"])
    return images_1CHW


@NEEDS_ONNX
def test_onnx_answers_in_every_batch_size_from_what_its_notes_say(
    small: Model, tmp_path: Path
) -> None:
    import onnxruntime

    exported = export(small, tmp_path / "out")
    assert exported.check is not None
    assert exported.check.largest_difference < TOLERANCE
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    (given_input,), (output,) = session.get_inputs(), session.get_outputs()
    assert given_input.shape == ["batch", 3, 16, 16]
    assert output.shape == ["batch", len(CLASSES)]
    for count in (1, 4, 9):
        images_BCHW = images_of(small, count)
        (logits_BC,) = session.run(["logits"], {"images": images_BCHW.numpy()})
        assert close(torch.from_numpy(logits_BC), logits_of(small, images_BCHW))

    inside = session.get_modelmeta().custom_metadata_map["preprocessing.json"]
    notes = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert json.loads(inside) == notes
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 52, 3), dtype=np.uint8))
    picture.save(tmp_path / "picture.png")
    images_1CHW = input_by(notes, tmp_path / "picture.png")
    (logits_1C,) = session.run([notes["output"]["name"]], {notes["input"]["name"]: images_1CHW})
    best = torch.softmax(torch.from_numpy(logits_1C), dim=1)[0].sort(descending=True)
    (expected,) = small.predict(tmp_path / "picture.png")
    assert [notes["classes"][label] for label in best.indices] == list(expected.labels)
    assert best.values.tolist() == pytest.approx(expected.probabilities, rel=1e-3)


@NEEDS_ONNX
def test_weights_that_do_not_fit_in_one_file_lie_beside_it(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "MAX_FILE_BYTES", 0)
    out = tmp_path / "out"
    exported = export(small, out)
    assert (out / "model.onnx.data").stat().st_size
    assert exported.check is not None
    record = json.loads((out / "export.json").read_text())
    assert set(record["files"]) == {file.name for file in out.iterdir()}
    assert record["opset"] == onnx_graph.OPSET


def test_missing_package_is_one_sentence_with_the_command(
    small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    command = " ".join(f"'{text}'" for text in extra["optional-dependencies"]["onnx"])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(ProtegeError, match=r"needs .*onnxruntime>=.*: pip install") as error:
            export(small, tmp_path / "out")
    assert str(error.value).endswith(command)
    monkeypatch.setattr(onnx_graph, "PACKAGES", {"torch": (99, 0), "numpy": (1, 2)})
    with pytest.raises(ProtegeError, match=r"the format onnx needs torch>=99\.0: pip"):
        export(small, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_program_of_torch_runs_where_protege_is_not(small: Model, tmp_path: Path) -> None:
    # After it, torch's older switch of TF32 is an error, which its tracer asks for.
    with computing_in("float32", small.device):
        pass
    export(small, tmp_path / "out", "torch-export")
    images_BCHW = images_of(small, 4)
    paths = [str(tmp_path / name) for name in ("out/model.pt2", "images.pt", "logits.pt")]
    torch.save(images_BCHW, paths[1])
    command = [sys.executable, "-I", "-W", "ignore", "-c", RUN_ALONE, *paths]
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"  # type: ignore[attr-defined]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=EVENT_SECONDS)
    assert close(torch.load(paths[2]), logits_of(small, images_BCHW))


@pytest.mark.parametrize("way", ["random", "one batch size"])
def test_network_that_no_graph_stands_for_is_refused_and_leaves_nothing(
    way: str, tmp_path: Path
) -> None:
    sentence = {"random": "nothing was written: torch .* differ by", "one batch size": "any size"}
    with pytest.raises(ProtegeError, match=sentence[way]):
        export(odd_model(way), tmp_path / "out", "torch-export")
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_refused(root: Store, tmp_path: Path) -> None:
    spoiled = load_model(model(root, spoil=True))
    with pytest.raises(ProtegeError, match="answers what is no number"):
        export(spoiled, tmp_path / "out", "torch-export")


def test_check_sees_other_logits_and_other_shapes(small: Model) -> None:
    def plus(amount: float) -> Any:
        return lambda images_BCHW: logits_of(small, images_BCHW) + amount

    assert check_answers(small, plus(1e-6), "x").batch_sizes == BATCH_SIZES
    for answer in (
        plus(1e-3),
        plus(float("nan")),
        lambda images_BCHW: logits_of(small, images_BCHW)[:, :-1],
        lambda images_BCHW: logits_of(small, images_BCHW)[:1],
    ):
        with pytest.raises(ProtegeError, match="nothing was written"):
            check_answers(small, answer, "x")


def test_earlier_export_is_replaced_whole_and_only_when_that_was_asked_for(
    small: Model, resnet: Model, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(small, out, "torch-export")
    before = (out / "model.pt2").read_bytes()
    with pytest.raises(ProtegeError, match="is not empty"):
        export(resnet, out, "timm")
    with pytest.raises(ProtegeError, match="nothing was written"):
        export(odd_model("random"), out, "torch-export", replace=True)
    assert (out / "model.pt2").read_bytes() == before
    export(resnet, out, "timm", replace=True)
    assert {file.name for file in out.iterdir()} == {
        *("config.json", "export.json", "model.safetensors", "preprocessing.json"),
    }
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".")] == []


def test_files_of_somebody_else_are_never_replaced(small: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(small, out, "torch-export")
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ProtegeError, match=r"no export of protege, such as thesis\.txt"):
        export(small, out, "torch-export", replace=True)
    (tmp_path / "file").write_text("no folder")
    for place, sentence in ((tmp_path / "file", "is a file"), ("s3://bucket/x", "is on S3")):
        with pytest.raises(ProtegeError, match=sentence):
            export(small, place, "torch-export", replace=True)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_unknown_format_names_those_that_there_are(small: Model, tmp_path: Path) -> None:
    with pytest.raises(ProtegeError, match="no format 'tflite'; there are: onnx, torch-export"):
        pg.export(small, tmp_path / "out", format="tflite")
    assert open_store(str(tmp_path / "out")).sizes() == {}
    assert set(FORMATS) == {"onnx", "torch-export", "timm", "hf"}
