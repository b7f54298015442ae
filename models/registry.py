"""Registry: every network by name, with what must be known of it before it is built.

    network = build("resnet50", num_classes=1000)
    NETWORKS["resnet50"].input_size  # 224
    published_inputs("timm/vit_small_patch16_224").interpolation  # "bicubic"

A new network is a record in `models/records/`; its layers are in `models/networks/`. The layers are
imported when a network is built, so that names can be checked without loading torch. Beside the
records, `timm/<name>` is any network of the package timm, where it is installed, and `onnx` what
another program has written in that format. `<name>+projection` is a network whose features go
through the first layer of a projection head, which contrastive training leaves beside it.
"""

import difflib
from typing import TYPE_CHECKING

from models.records import RECORDS as NETWORKS
from models.records import NetworkRecord, PublishedAccuracy, PublishedInputs

if TYPE_CHECKING:
    from models.network import Network

__all__ = [
    "NETWORKS",
    "ONNX",
    "PROJECTED",
    "TIMM_PREFIX",
    "NetworkRecord",
    "PublishedAccuracy",
    "PublishedInputs",
    "build",
    "check_name",
    "nearest_names",
    "published_inputs",
]

TIMM_PREFIX = "timm/"
ONNX = "onnx"  # a network that another program has written, in a file of that format
PROJECTED = "+projection"
MAX_NEAREST = 3


def nearest_names(name: str) -> list[str]:
    """The names of networks that are like this one, best first; perhaps none."""
    return difflib.get_close_matches(name, NETWORKS, n=MAX_NEAREST)


def check_name(name: str) -> str:
    """The name itself. Raises ValueError, with the nearest names, when it cannot be built."""
    inner = name.removesuffix(PROJECTED)
    if inner == ONNX != name:
        raise ValueError("an onnx file has no features that a projection could follow")
    if inner not in (*NETWORKS, ONNX) and not inner.startswith(TIMM_PREFIX):
        nearest = " or ".join(map(repr, nearest_names(inner)))
        hint = f"did you mean {nearest}?" if nearest else "`protege models` lists them"
        raise ValueError(f"there is no model {name!r}; {hint} (or timm/<name>, or onnx)")
    return name


def build(name: str, num_classes: int) -> "Network":
    """A freshly initialised network: images_BCHW (B, 3, H, W) -> logits_BC (B, num_classes).

    Raises ValueError for an unknown name, ModuleNotFoundError for `timm/` without timm.
    """
    check_name(name)
    if name.endswith(PROJECTED):
        from models.networks.projection import ProjectedNetwork

        return ProjectedNetwork(build(name.removesuffix(PROJECTED), num_classes), num_classes)
    if name in NETWORKS:
        return NETWORKS[name].build(num_classes)
    if name == ONNX:
        return _build_onnx(num_classes)
    try:
        from models.networks.timm_network import TimmNetwork
    except ModuleNotFoundError as error:
        raise _needs_timm(name, error) from error

    return TimmNetwork(name.removeprefix(TIMM_PREFIX), num_classes)


def _build_onnx(num_classes: int) -> "Network":
    try:
        from models.networks.onnx_network import OnnxNetwork
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the model onnx needs onnxruntime ({error}): pip install 'protege[onnx]'"
        ) from error
    return OnnxNetwork(num_classes)


def published_inputs(name: str) -> PublishedInputs:
    """The inputs that the published weights of a network expect; not of an onnx file.

    Raises ValueError for an unknown name, ModuleNotFoundError for `timm/` without timm.
    """
    name = check_name(name).removesuffix(PROJECTED)
    if name in NETWORKS:
        return NETWORKS[name].inputs
    try:
        from models.networks.timm_network import timm_inputs
    except ModuleNotFoundError as error:
        raise _needs_timm(name, error) from error

    return timm_inputs(name.removeprefix(TIMM_PREFIX))


def _needs_timm(name: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"{name} needs timm and torchvision ({error}): install both, or take one that "
        "`protege models` lists"
    )
