"""Card: the README.md of a model on the Hugging Face hub.

In: a model, where it comes from, its name in timm. Out: text: what the hub reads as YAML, then what
people read. The licence is left to the person who publishes it.
"""

import math
from collections.abc import Iterator
from typing import Any

import yaml

from tasks.export.origin import Origin
from tasks.inference.model import Model

SHOWN_CLASSES = 100
LICENSE = "to-be-chosen"
USE = """```python
import timm
model = timm.create_model("hf-hub:OWNER/NAME", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))

from transformers import pipeline  # needs timm
pipeline("image-classification", "OWNER/NAME")("picture.jpg")
```"""


def model_card(model: Model, origin: Origin, timm_name: str) -> str:
    """The text."""
    front = yaml.safe_dump(_front_matter(origin), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(_lines(model, origin, timm_name)) + "\n"


def _front_matter(origin: Origin) -> dict[str, Any]:
    front: dict[str, Any] = {
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "timm", "transformers"],
        "license": "other",
        "license_name": LICENSE,
    }
    if origin.top1 is not None:
        accuracy = {"type": "accuracy", "name": "Top-1 accuracy", "value": round(origin.top1, 4)}
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": "test set of the campaign", "type": "test-set"},
            "metrics": [accuracy],
        }
        front["model-index"] = [{"name": origin.campaign or "model", "results": [result]}]
    return front


def _lines(model: Model, origin: Origin, timm_name: str) -> Iterator[str]:
    inputs, classes = model.description.inputs, model.description.classes
    yield f"# {timm_name} for {len(classes)} classes\n"
    yield f"LICENCE: {LICENSE}. Choose one in the first lines of this file, and delete this one.\n"
    yield f"An image classifier, {_made_by(origin)}.\n"
    yield "## Use\n"
    yield f"{USE}\n"
    yield "## Inputs\n"
    yield (
        f"The shorter side is scaled to {inputs.resize} pixels (bilinear, antialiased) and the "
        f"central square of {inputs.size} is cut out. Pixels in [0, 1], red, green, blue, minus "
        f"{list(inputs.mean)}, divided by {list(inputs.std)}. `preprocessing.json` has it all.\n"
    )
    yield "## Results\n"
    yield f"{_results(origin)}\n"
    yield "## Classes\n"
    yield from (f"{label}. {name}" for label, name in enumerate(classes[:SHOWN_CLASSES]))
    if len(classes) > SHOWN_CLASSES:
        yield f"\nand {len(classes) - SHOWN_CLASSES:,} more, in `config.json`"


def _made_by(origin: Origin) -> str:
    if not origin.campaign:
        return "trained by protege"
    return f"the result of protege's recipe {origin.recipe}: {origin.method}"


def _results(origin: Origin) -> str:
    if origin.top1 is None:
        return "Not measured: a campaign with a test set has figures."
    if not origin.test_images:
        return f"Right on {origin.top1:.1%} of the test images of its campaign."
    error = math.sqrt(origin.top1 * (1 - origin.top1) / origin.test_images)
    return (
        f"Right on {origin.top1:.1%} (standard error {error:.1%}) of the {origin.test_images:,} "
        "test images of its campaign."
    )
