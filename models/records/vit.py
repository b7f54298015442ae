"""Vision transformers. Accuracies are as timm measured them at 224 pixels: a crop of 90 %, bicubic.

The weights are those of "How to train your ViT?" (Steiner et al. 2021), trained on ImageNet-1k.
"""

from typing import TYPE_CHECKING

from models.records.base import (
    TIMM_RESULTS,
    NetworkRecord,
    PublishedAccuracy,
    PublishedInputs,
)

if TYPE_CHECKING:
    from models.network import Network

CENTRED = (0.5, 0.5, 0.5)
INPUTS = PublishedInputs(224, 0.9, "bicubic", mean=CENTRED, std=CENTRED)


def _record(
    size: str, width: int, num_heads: int, cost: tuple[int, float], top1: float, top5: float
) -> NetworkRecord:
    """A record; `cost` is the parameters and GMACs."""

    def build_vit(num_classes: int) -> "Network":
        from models.networks.vit import VisionTransformer

        return VisionTransformer(width, num_heads, num_classes)

    weights = f"vit_{size}_patch16_224.augreg_in1k"
    published = (PublishedAccuracy(weights, "supervised", top1, top5, TIMM_RESULTS),)
    return NetworkRecord(f"vit_{size}_patch16", "vit", build_vit, INPUTS, *cost, published)


VITS = (
    _record("small", 384, 6, (22_050_664, 4.599), 78.842, 94.280),
    _record("base", 768, 12, (86_567_656, 17.564), 79.154, 94.108),
)
