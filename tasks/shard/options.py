"""Options of the stage `shard`."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tasks.options import Options
from tasks.shard.sources import Slice


class ShardOptions(Options):
    """Where images come from and how they are cut into shards."""

    NOT_IN_FINGERPRINT: ClassVar[frozenset[str]] = frozenset({"max_reject_percent"})

    source: str = ""
    """A folder of images, of .tar or of .parquet files, or a list (.csv, .txt); local or s3://."""
    labelled: bool = False
    """The source tells true classes: by folder name, or by a column `label` of a list or table."""
    from_percent: float = Field(0, ge=0, le=100)
    """Only images whose key hashes to this percent or above, from 0 to 100."""
    to_percent: float = Field(100, ge=0, le=100)
    """Only images whose key hashes below it: 0 to 90 and 90 to 100 share no image, ever."""
    images_per_shard: int = Field(10_000, ge=1, le=1_000_000)
    """Loose images in a shard; a tar or Parquet file is always one shard."""
    verify: Literal["decode", "header"] = "decode"
    """Decode every image once (finds damaged files now) or look at headers only (faster)."""
    tar: Literal["reference", "copy"] = "reference"
    """Leave images in their tar files and remember the place, or copy them into the shards."""
    max_megapixels: float = Field(64, ge=0.01, le=1000)
    """Larger images are rejected by their header, before they are decoded."""
    max_reject_percent: float = Field(5, ge=0, le=100)
    """The stage fails when more than this share of the images cannot be used."""

    @model_validator(mode="after")
    def _slice_has_a_width(self) -> "ShardOptions":
        if self.from_percent >= self.to_percent:
            raise ValueError(
                f"from_percent ({self.from_percent:g}) must be below to_percent "
                f"({self.to_percent:g})"
            )
        return self

    @property
    def slice(self) -> Slice:
        """The share of the images that is taken."""
        return Slice(self.from_percent, self.to_percent)
