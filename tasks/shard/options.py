"""Options of the stage `shard`."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tasks.options import Options
from tasks.shard.sources import Columns, Listing, Patterns, Reading, Slice, list_source


def _split(patterns: str) -> tuple[str, ...]:
    return tuple(pattern.strip() for pattern in patterns.split(",") if pattern.strip())


class ShardOptions(Options):
    """Where images come from and how they are cut into shards."""

    NOT_IN_FINGERPRINT: ClassVar[frozenset[str]] = frozenset(
        {"max_reject_percent", "skip_bad_containers"}
    )

    source: str = ""
    """A folder of images, of .tar or .parquet files, or a list (.csv, .jsonl); local or s3://."""
    labelled: bool = False
    """The source tells true classes: by folders, by a column of a list or table, or in its tars."""
    include: str = ""
    """Only images whose key matches one of these patterns: *.png, *.jpg; empty takes all."""
    exclude: str = ""
    """No images whose key matches one of these patterns: thumbnails/*, *.gif."""
    image_column: str = ""
    """Column of the images in a table, or of the paths in a list; empty guesses it by its name."""
    label_column: str = ""
    """Column of the classes in a table or list, or their field in a tar's .json; empty guesses."""
    class_level: int = Field(0, ge=0, le=20)
    """Level of the folder that is the class; 1 is the top one, 0 takes it where that is sure."""
    from_percent: float = Field(0, ge=0, le=100)
    """Only images whose key hashes to this percent or above, from 0 to 100."""
    to_percent: float = Field(100, ge=0, le=100)
    """Only images whose key hashes below it: 0 to 90 and 90 to 100 share no image, ever."""
    images_per_shard: int = Field(10_000, ge=1, le=1_000_000)
    """Loose images in a shard; a tar or Parquet file is always one shard."""
    mib_per_shard: int = Field(512, ge=1, le=65_536)
    """A shard of loose images ends at so many MiB, too: photographs are larger than icons."""
    verify: Literal["decode", "header"] = "decode"
    """Decode every image once (finds damaged files now) or look at headers only (faster)."""
    containers: Literal["reference", "copy"] = "reference"
    """Leave images in their tar and Parquet files, or copy them into the shards."""
    max_megapixels: float = Field(64, ge=0.01, le=1000)
    """Larger images are rejected by their header, before they are decoded."""
    max_reject_percent: float = Field(5, ge=0, le=100)
    """The stage fails when more than this share of the images cannot be used."""
    skip_bad_containers: bool = False
    """A .tar or .parquet file that cannot be read is one reject, and does not stop the stage."""

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

    @property
    def patterns(self) -> Patterns:
        """Which keys are wanted."""
        return Patterns(_split(self.include), _split(self.exclude))

    @property
    def columns(self) -> Columns:
        """Which columns are named."""
        return Columns(self.image_column, self.label_column)

    @property
    def reading(self) -> Reading:
        """What is read of its images."""
        in_place = self.containers == "reference"
        return Reading(self.labelled, self.columns, self.class_level, in_place=in_place)

    def list_files(self) -> Listing:
        """The files of the source as they are now. Raises ProtegeError."""
        return list_source(
            self.source,
            labelled=self.labelled,
            within=self.slice,
            patterns=self.patterns,
            columns=self.columns,
            class_level=self.class_level,
        )
