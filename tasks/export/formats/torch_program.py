"""torch-export: the network as a program of torch, which runs without our code.

In: a model. Out: `model.pt2`, for torch.export.load.
"""

from pathlib import Path

import torch

from tasks.export.check import check_answers
from tasks.export.formats.base import Written, shape_text
from tasks.export.origin import Origin
from tasks.export.preprocessing import PREPROCESSING, preprocessing_json
from tasks.export.program import export_program
from tasks.inference.model import Model

FILE = "model.pt2"


def admit(_model: Model) -> None:
    """Every network has a program."""


def write(model: Model, _origin: Origin, folder: Path) -> Written:
    """Write the program with the preprocessing inside. Raises ProtegeError for a mismatch."""
    path = folder / FILE
    notes = {PREPROCESSING: preprocessing_json(model.description)}
    torch.export.save(export_program(model), path, extra_files=notes)
    program = torch.export.load(path).module()
    check = check_answers(model, program, f"torch {torch.__version__}")
    return Written(f"{FILE}, a program of torch.export for {shape_text(model)}", check)
