"""ONNX: the network as a graph for other runtimes and languages.

In: a model. Out: `model.onnx`, and `model.onnx.data` beside it when the weights do not fit in one
file. The preprocessing is in the metadata, too.
"""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from infra.errors import ProtegeError
from tasks.export.check import Answer, check_answers
from tasks.export.formats.base import Written, shape_text
from tasks.export.origin import Origin
from tasks.export.preprocessing import (
    BATCH,
    INPUT,
    OUTPUT,
    PREPROCESSING,
    preprocessing_json,
)
from tasks.export.program import export_program, tracing
from tasks.inference.model import Model

FILE = "model.onnx"
OPSET = 18  # what torch writes without converting it
# What torch writes graphs with, and what runs them: the extra `onnx` of pyproject.toml.
PACKAGES = {"onnx": (1, 20), "onnxruntime": (1, 24), "onnxscript": (0, 6)}
MAX_FILE_BYTES = 1_800_000_000  # a message of protobuf has less than 2 GiB
ERRORS_ONLY = 3  # level of onnxruntime's log


def admit(_model: Model) -> None:
    """Every network has a graph. Raises ProtegeError without the packages that write it."""
    needed = [f"{name}>={major}.{minor}" for name, (major, minor) in PACKAGES.items()]
    missing = [text for text, name in zip(needed, PACKAGES) if _is_missing(name, PACKAGES[name])]
    if missing:
        command = " ".join(f"'{text}'" for text in needed)
        raise ProtegeError(f"the format onnx needs {', '.join(missing)}: pip install {command}")


def _is_missing(name: str, least: tuple[int, int]) -> bool:
    """Whether a package is not there, or too old."""
    if find_spec(name) is None:
        return True
    try:
        found = version(name)
    except PackageNotFoundError:  # onnxruntime-gpu has the module of onnxruntime
        return False
    return tuple(map(int, found.split(".")[:2])) < least


def write(model: Model, _origin: Origin, folder: Path) -> Written:
    """Write the graph. Raises ProtegeError when onnxruntime computes something else from it."""
    path = folder / FILE
    program = export_program(model)
    with tracing():
        graph = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_shapes={INPUT: {0: Dim(BATCH)}},
            verbose=False,
        )
        assert graph is not None
        graph.model.metadata_props[PREPROCESSING] = preprocessing_json(model.description)
        graph.save(path, external_data=_num_bytes(model) > MAX_FILE_BYTES)
    check = check_answers(model, *_session(path))
    what = f"{FILE}, ONNX of opset {OPSET} for {shape_text(model)}"
    return Written(what, check, facts={"opset": OPSET, "onnx": version("onnx")})


def _session(path: Path) -> tuple[Answer, str]:
    """What onnxruntime answers from the file, and its version."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def answer(images_BCHW: Tensor) -> Tensor:
        (logits_BC,) = session.run([OUTPUT], {INPUT: images_BCHW.numpy()})
        return torch.from_numpy(logits_BC)

    return answer, f"onnxruntime {onnxruntime.__version__}"


def _num_bytes(model: Model) -> int:
    return sum(tensor.nbytes for tensor in model.network.state_dict().values())
