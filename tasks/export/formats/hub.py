"""hf: a folder for the Hugging Face hub: timm's files, labels for transformers, and a card.

In: a model whose network timm has. Out: `model.safetensors`, `config.json` and `README.md`, which
timm reads from `hf-hub:` and transformers as its TimmWrapper.
"""

from pathlib import Path

from tasks.export.card import model_card
from tasks.export.formats.base import Written
from tasks.export.formats.timm_folder import timm_name, write_folder
from tasks.export.origin import Origin
from tasks.inference.model import Model

CARD = "README.md"


def write(model: Model, origin: Origin, folder: Path) -> Written:
    """Write the files. Raises ProtegeError when timm computes something else from them."""
    classes = model.description.classes
    labels = {
        "architectures": ["TimmWrapperForImageClassification"],
        "model_type": "timm_wrapper",
        "id2label": {str(label): name for label, name in enumerate(classes)},
        "label2id": {name: label for label, name in enumerate(classes)},
    }
    card = model_card(model, origin, timm_name(model.description.model) or "")
    (folder / CARD).write_text(card, "utf-8")
    return write_folder(model, folder, labels)
