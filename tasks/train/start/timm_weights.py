"""Weights of timm: the file that the Hugging Face hub has for a name of timm.

    path = timm_file("resnet50.a1_in1k")

In: the name of a network, with the name of its weights behind a dot. Out: the path of a
safetensors file in the hub's own cache, which is downloaded once.
"""

from pathlib import Path

from infra.errors import ProtegeError

FILE = "model.safetensors"


def timm_file(name: str) -> Path:
    """The local file of these weights. Raises ProtegeError when there is none."""
    try:
        import huggingface_hub
        import timm
    except ModuleNotFoundError as error:
        raise ProtegeError(
            f"weights timm/{name} need the package timm ({error}): pip install timm, or give the "
            "path of a file"
        ) from error
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise ProtegeError(f"timm has no weights on the Hugging Face hub for {name!r}")
    try:
        return Path(huggingface_hub.hf_hub_download(config.hf_hub_id, FILE))
    except (OSError, ValueError) as error:
        raise ProtegeError(
            f"weights timm/{name} cannot be had from huggingface.co/{config.hf_hub_id}: "
            f"{' '.join(str(error).split())[:200]}. Fetch {FILE} on another machine, and give its "
            "path as start.weights"
        ) from error
