"""Export: a finished model as files that other software reads without protege.

In: a model, a format, a folder. Out: the folder, complete or not at all, with `preprocessing.json`
(what an image must become) and `export.json` (what was written, and how it was checked).

    export(open_model("out/train/3f2a90cc11d0ab42"), "student-onnx", "onnx")

folder.py         the folder, which appears whole
preprocessing.py  what an image must become, as data
program.py        the network as one function of a batch of any size
check.py          the written files against the network
formats/          how each format is written and read back
card.py           what a person reads on a model's page
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from infra.errors import ProtegeError, utc_now
from tasks.export.check import Check
from tasks.export.folder import RECORD, new_folder
from tasks.export.formats import FORMATS
from tasks.export.origin import UNKNOWN, Origin
from tasks.export.preprocessing import PREPROCESSING, preprocessing_json
from tasks.inference.model import Model

__all__ = ["FORMATS", "Exported", "Origin", "export"]


@dataclass(frozen=True)
class Exported:
    """A folder that was written: `what` is in it, and how it was checked, if it could be."""

    folder: Path
    what: str
    check: Check | None
    why_unchecked: str = ""

    @property
    def lines(self) -> list[str]:
        """The same for people."""
        return [f"{self.folder}: {self.what}", str(self.check or self.why_unchecked)]


def export(
    model: Model,
    out: str | Path,
    format_name: str = "onnx",
    *,
    origin: Origin = UNKNOWN,
    replace: bool = False,
) -> Exported:
    """Write a model into a folder, in one of `FORMATS`.

    A folder that is there must be empty, or with `replace` an earlier export. Raises ProtegeError
    for any other, for a format that has no place for this network, when a package is missing, and
    when the files do not give the answers of the network; then nothing is written.
    """
    if format_name not in FORMATS:
        raise ProtegeError(f"there is no format {format_name!r}; there are: {', '.join(FORMATS)}")
    chosen = FORMATS[format_name]
    chosen.admit(model)
    with new_folder(out, replace=replace) as (folder, final):
        plain = _on_cpu(model)
        written = chosen.write(plain, origin, folder)
        (folder / PREPROCESSING).write_text(preprocessing_json(plain.description), "utf-8")
        exported = Exported(final, written.what, written.check, written.why_unchecked)
        facts = {"format": format_name, **written.facts}
        files = sorted([RECORD, *(file.name for file in folder.iterdir())])
        (folder / RECORD).write_text(_record(exported, plain, origin, facts, files), "utf-8")
    return exported


def _on_cpu(model: Model) -> Model:
    """A copy for any machine: an exported graph would repeat a GPU and a layout of memory."""
    network = copy.deepcopy(model.network).to("cpu")
    # torch's own stubs leave out the argument that its documentation recommends.
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Model(network.eval(), model.description, torch.device("cpu"))


def _record(
    exported: Exported, model: Model, origin: Origin, facts: Mapping[str, Any], files: list[str]
) -> str:
    """The text of `export.json`."""
    body = {
        "made_at": utc_now(),
        "what": exported.what,
        "network": model.description.model,
        "origin": {name: value for name, value in asdict(origin).items() if value},
        **facts,
        "torch": torch.__version__,
        "check": asdict(exported.check) if exported.check else exported.why_unchecked,
        "files": files,
    }
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"
