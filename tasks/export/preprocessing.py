"""Preprocessing: what an image must become before a network sees it, as data.

In: the description of a model. Out: `preprocessing.json`, from which a program in any language can
make the network's input, and name its output.

    preprocessing(description)["resize"]  # 256
"""

import json
from typing import Any

from tasks.images.transform import MAX_ASPECT
from tasks.inference.weights import Description

PREPROCESSING = "preprocessing.json"
INPUT, OUTPUT, BATCH = "images", "logits", "batch"
CHANNELS = 3


def preprocessing(description: Description) -> dict[str, Any]:
    """Sizes in pixels; mean and std of red, green and blue, for pixels in [0, 1]."""
    inputs, classes = description.inputs, description.classes
    return {
        "steps": [
            "decode: the first frame, turned upright by its EXIF orientation, transparent on white",
            f"of a strip, its middle: the longer side is at most {MAX_ASPECT} times the shorter",
            f"scale the shorter side to {inputs.resize} pixels, "
            f"{inputs.interpolation} with antialiasing",
            f"cut out the central square of {inputs.size} x {inputs.size} pixels",
            "divide by 255, subtract the mean and divide by the std of each colour",
            f"stack to (batch, {CHANNELS}, {inputs.size}, {inputs.size}), red, green, blue",
        ],
        "size": inputs.size,
        "resize": inputs.resize,
        "crop": "center",
        "interpolation": inputs.interpolation,
        "antialias": True,
        "scale": 1 / 255,
        "mean": list(inputs.mean),
        "std": list(inputs.std),
        "channel_order": "RGB",
        "layout": "NCHW",
        "dtype": "float32",
        "input": {"name": INPUT, "shape": [BATCH, CHANNELS, inputs.size, inputs.size]},
        "output": {
            "name": OUTPUT,
            "shape": [BATCH, len(classes)],
            "meaning": "logits in the order of `classes`; their softmax is the probabilities",
        },
        "classes": list(classes),
    }


def preprocessing_json(description: Description) -> str:
    """The same as text."""
    return json.dumps(preprocessing(description), indent=1, ensure_ascii=False) + "\n"
