"""torch.hub: the networks of protege, published weights for them, and models that protege trained.

    network = torch.hub.load("<folder of this file>", "resnet50_swsl", source="local")
    network = torch.hub.load("<folder of this file>", "protege", "protege-output/train/5f0c...",
                             source="local")
    network.classes, network.inputs["mean"]

In: the name of an entry point, of which torch.hub.list gives all. Out: a network, on the CPU. It
needs nothing but torch. `models` is a common name, which other repositories on torch.hub have as
well; so our packages are loaded under a name of their own, and `sys.modules["models"]` is left to
whoever has it. docs/weights.md has the names, their licences and where files go.
"""

import builtins as _builtins
import hashlib as _hashlib
import importlib as _importlib
import json as _json
import sys as _sys
from collections.abc import Callable as _Callable
from importlib.machinery import ModuleSpec as _ModuleSpec
from importlib.machinery import PathFinder as _PathFinder
from importlib.machinery import SourceFileLoader as _SourceFileLoader
from pathlib import Path as _Path
from types import ModuleType as _ModuleType
from typing import Any as _Any

import torch as _torch

if _sys.version_info < (3, 11):  # noqa: UP036 (torch.hub reads no pyproject.toml)
    raise RuntimeError("the networks of protege need Python 3.11 or newer")

dependencies = ["torch"]

_ROOT = _Path(__file__).resolve().parent
# Two copies of this repository may be in use at once.
_NAME = f"protege_hub_{_hashlib.sha256(str(_ROOT).encode()).hexdigest()[:16]}"
_PACKAGES = ("models", "infra")

_WEIGHTS = "weights.safetensors"
# The types of tensors in the safetensors format, as far as networks have them.
_DTYPES = {
    "F64": _torch.float64,
    "F32": _torch.float32,
    "F16": _torch.float16,
    "BF16": _torch.bfloat16,
    "I64": _torch.int64,
    "I32": _torch.int32,
    "U8": _torch.uint8,
    "BOOL": _torch.bool,
}
# Mean and deviation of red, green and blue, as tasks/images/transform.py has them.
_PIXEL_SCALES = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "centred": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


def protege(path: str) -> _Any:
    """A model that protege has trained, in evaluation mode.

    Args:
        path: the folder of the model, or the file weights.safetensors in it.

    Returns:
        The network, images_BCHW to logits_BC, with two attributes: `classes`, the name of each
        output, and `inputs`, what an image must become: `resize` of the shorter side, then the
        central square of `size` pixels, scaled to [0, 1], minus `mean`, divided by `std`.
    """
    file = _Path(path)
    file = file / _WEIGHTS if file.is_dir() else file
    metadata, tensors = _read_safetensors(file)
    if "protege" not in metadata:
        raise _error(f"{file} does not say what it is; protege did not write it")
    description = _json.loads(metadata["protege"])
    network = _build(description["model"], len(description["classes"]))
    _load(network, tensors, file)
    return _describe(network, description["classes"], description["inputs"])


def _published_entry(weights: _Any) -> _Callable[..., _Any]:
    """The function that gives the network with these published weights."""

    def entry(
        progress: bool = True, path: str | None = None, base_url: str = "", **others: _Any
    ) -> _Any:
        if others not in ({}, {"num_classes": 1000}):
            raise TypeError(
                f"{weights.name} takes progress, path and base_url, and not {', '.join(others)}: "
                "its weights are of one network with 1,000 classes (network.with_new_head(10) is "
                "a copy for others)"
            )
        file = _Path(path) if path else _downloaded(weights, progress, base_url)
        network = _build(weights.network, 1000)
        _load(network, _read(file), file)
        network.words = weights.words
        inputs = {"size": weights.input_size, "resize": weights.resize, "pixels": weights.pixels}
        return _describe(network, weights.classes, inputs)

    problem = f"\n\n    Known problem: {weights.problem}." if weights.problem else ""
    entry.__doc__ = f"""{weights.network} with the published weights {weights.name}, in evaluation mode.

    Top-1 on ImageNet {weights.top1} % as its authors state; {weights.licence_note}.{problem}

    Args:
        progress: say on standard error how far the download is.
        path: a file with these weights, to use instead of a download.
        base_url: the folder of a mirror to download from.

    Returns:
        The network, images_BCHW to logits_BC, with the attributes `classes` (the synset of each
        output), `words` (its words) and `inputs` (as of the entry point `protege`).
    """  # noqa: E501
    return entry


def _plain_entry(record: _Any) -> _Callable[..., _Any]:
    """The function that builds the network of a record."""

    def entry(num_classes: int = 1000) -> _Any:
        return _build(record.name, num_classes)

    entry.__doc__ = f"""{record.name}, freshly initialised, in training mode.

    {record.num_parameters:,} parameters with 1,000 classes; made for {record.input_size} pixels.

    Args:
        num_classes: number of outputs.

    Returns:
        The network, images_BCHW to logits_BC.
    """
    return entry


def _build(name: str, num_classes: int) -> _Any:
    return _own("models.registry").build(name, num_classes)


def _load(network: _Any, content: object, file: _Path) -> None:
    """Load strictly. Raises ProtegeError, with the keys that do not fit."""
    try:
        _own("models.state_dicts").load_published(network, content)
    except (RuntimeError, ValueError) as error:
        raise _error(f"{file} does not fit the network: {error}") from error


def _describe(network: _Any, classes: _Any, inputs: dict[str, _Any]) -> _Any:
    """The network in evaluation mode, with its classes and its inputs."""
    mean, std = _PIXEL_SCALES[inputs["pixels"]]
    network.classes = tuple(classes)
    network.inputs = {**inputs, "mean": mean, "std": std}
    return network.eval()


def _downloaded(weights: _Any, progress: bool, base_url: str) -> _Path:
    def show(count: int, length: int) -> None:
        share = f"{count / length:4.0%} of " if length else ""
        end = "\n" if count == length else ""
        _sys.stderr.write(f"\r{share}{max(count, length):,} bytes{end}")
        _sys.stderr.flush()

    on_bytes = show if progress else None
    file: _Path = _own("infra.downloads").local_file(weights, base_url=base_url, on_bytes=on_bytes)
    return file


def _read(file: _Path) -> object:
    """The content of a file of weights; nothing in it is executed."""
    if file.suffix.lower() == ".safetensors":
        return _read_safetensors(file)[1]
    try:
        return _torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # A torn or foreign file makes the unpickler fail in any way there is.
        reason = " ".join(str(error).split())[:200]
        raise _error(f"{file} cannot be read as weights: {reason}") from error


def _read_safetensors(file: _Path) -> tuple[dict[str, str], dict[str, _torch.Tensor]]:
    """The metadata and the tensors of a safetensors file: a length, a JSON header, then bytes."""
    try:
        data = bytearray(file.read_bytes())
        start = 8 + int.from_bytes(data[:8], "little")
        header = _json.loads(data[8:start])
        metadata = header.pop("__metadata__", None) or {}
        return metadata, {key: _tensor(data, start, **entry) for key, entry in header.items()}
    except OSError as error:
        raise _error(f"{file} cannot be read: {error}") from error
    except (ValueError, AttributeError, TypeError, KeyError, RuntimeError) as error:
        raise _error(f"{file} is no file in the safetensors format, or a damaged one") from error


def _tensor(
    data: bytearray, start: int, dtype: str, shape: list[int], data_offsets: list[int]
) -> _torch.Tensor:
    begin, end = data_offsets
    kind = _DTYPES[dtype]
    count = (end - begin) // kind.itemsize
    return _torch.frombuffer(data, dtype=kind, count=count, offset=start + begin).reshape(shape)


def _error(sentence: str) -> Exception:
    error: Exception = _own("infra.errors").ProtegeError(sentence)
    return error


class _Loader(_SourceFileLoader):
    """Loads a module of ours, whose imports of `models` and `infra` give those of this folder."""

    def exec_module(self, module: _ModuleType) -> None:
        # Every import statement of a module, also one inside a function that runs much later,
        # calls the `__import__` of the module's own builtins.
        vars(module)["__builtins__"] = {**vars(_builtins), "__import__": _import}
        super().exec_module(module)


class _Finder:
    """Finds the modules of this folder under their private names."""

    @staticmethod
    def find_spec(name: str, path: _Any = None, target: _Any = None) -> _ModuleSpec | None:
        if not name.startswith(f"{_NAME}."):
            return None
        spec = _PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, _SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def _import(
    name: str,
    globals: _Any = None,  # noqa: A002
    locals: _Any = None,  # noqa: A002
    fromlist: _Any = (),
    level: int = 0,
) -> _Any:
    """What `import name` means in a module of ours."""
    top = name.partition(".")[0]
    if level or top not in _PACKAGES:
        return _builtins.__import__(name, globals, locals, fromlist, level)
    module = _builtins.__import__(f"{_NAME}.{name}", globals, locals, fromlist, 0)
    return module if fromlist else getattr(module, top)


def _own(name: str) -> _Any:
    """A module of this folder."""
    return _importlib.import_module(f"{_NAME}.{name}")


if _NAME not in _sys.modules:
    _package = _ModuleType(_NAME)
    _package.__path__ = [str(_ROOT)]
    _sys.modules[_NAME] = _package
    _sys.meta_path.insert(0, _Finder)


def _add(name: str, entry: _Callable[..., _Any]) -> None:
    """Make an entry point that torch.hub finds, and whose errors name it."""
    entry.__name__ = entry.__qualname__ = name
    globals()[name] = entry


for _record in _own("models.registry").NETWORKS.values():
    _add(_record.name, _plain_entry(_record))
for _weights in _own("models.published").PUBLISHED.values():
    # The others are inside packages of Python, which whoever has torch alone does not have.
    if _weights.url:
        _add(_weights.name, _published_entry(_weights))
