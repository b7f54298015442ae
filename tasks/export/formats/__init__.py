"""Formats: what a model can be exported as, by name. A format is a file here and a line below."""

from tasks.export.formats import hub, onnx_graph, timm_folder, torch_program
from tasks.export.formats.base import Format

FORMATS = {
    "onnx": Format(onnx_graph.admit, onnx_graph.write),
    "torch-export": Format(torch_program.admit, torch_program.write),
    "timm": Format(timm_folder.admit, timm_folder.write),
    "hf": Format(timm_folder.admit, hub.write),
}
