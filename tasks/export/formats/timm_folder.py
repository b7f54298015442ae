"""timm: weights and a configuration that `timm.create_model("local-dir:...")` reads.

In: a model whose network timm has under the same keys. Out: `model.safetensors`, which protege
reads as well, and `config.json`. timm is not needed to write them; where it is installed, it reads
them back.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.errors import ProtegeError
from models.registry import PROJECTED, TIMM_PREFIX
from tasks.export.check import Check, check_answers
from tasks.export.formats.base import Written
from tasks.export.origin import Origin
from tasks.export.preprocessing import CHANNELS
from tasks.inference.model import Model
from tasks.inference.weights import encode_tensors

WEIGHTS_FILE, CONFIG = "model.safetensors", "config.json"
# Our names (timm 1.0 builds no 32x48d), and what timm calls the same layers under the same keys.
TIMM_NAMES = (
    (re.compile(r"resne(?:t\d+|xt\d+_32x(?:4|8|16|32)d)"), r"\g<0>"),
    (re.compile(r"efficientnet_(b\d|l2|lite0)"), r"tf_efficientnet_\1"),
    (re.compile(r"vit_(?:small|base)_patch16"), r"\g<0>_224"),
)
CONVOLUTION = 4  # dimensions of its weight
TENSORS_OF_TORCH = {"format": "pt"}  # what transformers wants to read in a file of weights


def timm_name(model: str) -> str | None:
    """The name of a network in timm; None when it has none, or other keys."""
    if model.endswith(PROJECTED):
        return None
    if model.startswith(TIMM_PREFIX):
        # What stands behind the dot are weights, and these are others.
        return model.removeprefix(TIMM_PREFIX).partition(".")[0]
    for pattern, name in TIMM_NAMES:
        if found := pattern.fullmatch(model):
            return found.expand(name)
    return None


def admit(model: Model) -> None:
    """Raises ProtegeError for a network that timm does not have."""
    if timm_name(model.description.model) is None:
        raise ProtegeError(
            f"timm has no network {model.description.model}, and so the hub's libraries have none: "
            "export it as onnx or torch-export"
        )


def write(model: Model, _origin: Origin, folder: Path) -> Written:
    """Write both files. Raises ProtegeError when timm computes something else from them."""
    return write_folder(model, folder, {})


def write_folder(model: Model, folder: Path, more: Mapping[str, Any]) -> Written:
    """Write both files, with `more` in the configuration."""
    metadata = {**model.description.to_metadata(), **TENSORS_OF_TORCH}
    (folder / WEIGHTS_FILE).write_bytes(encode_tensors(model.network.state_dict(), metadata))
    config = {**timm_config(model), **more}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", "utf-8")
    check, why_unchecked = _read_back(model, folder)
    what = f"{WEIGHTS_FILE} and {CONFIG} of timm's {config['architecture']}"
    return Written(what, check, why_unchecked)


def timm_config(model: Model) -> dict[str, Any]:
    """The configuration, as timm writes it for its hub."""
    inputs, classes = model.description.inputs, model.description.classes
    return {
        "architecture": timm_name(model.description.model),
        "num_classes": len(classes),
        "num_features": model.network.head.in_features,
        "label_names": list(classes),
        "pretrained_cfg": {
            "num_classes": len(classes),
            "input_size": [CHANNELS, inputs.size, inputs.size],
            "crop_pct": crop_share(inputs.size, inputs.resize),
            "crop_mode": "center",
            "interpolation": inputs.interpolation,
            "mean": list(inputs.mean),
            "std": list(inputs.std),
            **_replaceable_layers(model),
            "custom_load": False,
        },
        # The embeddings of places belong to one size of images.
        **({"model_args": {"img_size": inputs.size}} if "vit" in model.description.model else {}),
    }


def crop_share(size: int, resize: int) -> float:
    """The share of the scaled side that is cut out: timm's floor(size / share) is `resize`."""
    share = size / resize
    # Division is rounded, and may be just below the whole number.
    return share if math.floor(size / share) == resize else math.nextafter(share, 0)


def _replaceable_layers(model: Model) -> dict[str, str]:
    """What timm leaves out of the weights when someone wants other colours or other classes."""
    tensors = model.network.state_dict(keep_vars=True)
    head = model.network.head.weight
    first = next(key for key, tensor in tensors.items() if tensor.ndim == CONVOLUTION)
    last = next(key for key, tensor in tensors.items() if tensor is head)
    return {
        "first_conv": first.removesuffix(".weight"),
        "classifier": last.removesuffix(".weight"),
    }


def _read_back(model: Model, folder: Path) -> tuple[Check | None, str]:
    """What timm makes of the folder, or why it could not be asked."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # torchvision for another torch fails in both ways
        return None, f"not read back, because timm cannot be imported here ({error})"
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return check_answers(model, network, f"timm {timm.__version__}"), ""
