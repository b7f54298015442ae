"""Records: what is known of every network before it is built, a file for each family.

    RECORDS["resnet50"].gmacs  # 4.089

Nothing here imports torch: layers are imported when a record builds its network.
"""

from models.records.base import NetworkRecord, PublishedAccuracy, PublishedInputs
from models.records.efficientnet import EFFICIENTNETS
from models.records.r2plus1d import R2PLUS1DS
from models.records.resnet import RESNETS
from models.records.simclr import SIMCLR
from models.records.small import SMALL
from models.records.vit import VITS

RECORDS = {
    record.name: record for record in (*SMALL, *RESNETS, *EFFICIENTNETS, *SIMCLR, *VITS, *R2PLUS1DS)
}

__all__ = ["RECORDS", "NetworkRecord", "PublishedAccuracy", "PublishedInputs"]
