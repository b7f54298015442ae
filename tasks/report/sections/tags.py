"""Tags: what the words beside the images became: classes that a teacher learned, or nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks import tables
from tasks.contract import Output, part_number, read_part
from tasks.report.pictures import Picture, pictures_of
from tasks.report.sections import ReportData, Section
from tasks.shard import read_shard
from tasks.tags import TAG_CLASSES, TAGS, TAUGHT

LISTED_TAGS = 30
SHOWN_CLASSES = 12
NUM_PICTURES = 8


@dataclass(frozen=True)
class TagClass:
    """A class that tags teach; images of it are taken `repeats` times, on average, at least."""

    name: str
    images: int
    repeats: float
    pictures: list[Picture]


def applies(data: ReportData) -> bool:
    """Tags were learned from."""
    return bool(data.story.of_stage("tags"))


def facts(data: ReportData) -> Mapping[str, Any]:
    """What became of the tags, and pictures of the largest classes."""
    output = next(iter(data.story.of_stage("tags").values()))
    extra, tags = output.body["extra"], read_part(output.store, TAGS, tables.TAGS)
    classes = list(_classes(data, output))
    return {
        "images": extra["images"],
        "taught": extra[TAUGHT],
        "repeated": output.options["resampling"] != "none",
        "num_classes": len(output.classes),
        "num_tags": extra["tags"],
        "unmapped": extra["unmapped_tags"],
        "tags": tags.slice(0, LISTED_TAGS).to_pylist(),
        "classes": classes,
    }


def _classes(data: ReportData, output: Output) -> Iterator[TagClass]:
    """The largest classes, with those of the first images that have one of their tags."""
    rows = read_part(output.store, TAG_CLASSES, tables.TAG_CLASSES).to_pylist()
    # The pictures are examples; to look for better ones, all parts would have to be read.
    parts = [part for part in output.body["parts"] if part["facts"].get(TAUGHT, "0") != "0"]
    first = parts[0]["name"]
    labels = read_part(output.store, first, tables.TAG_LABELS)
    (images,) = data.inputs_of(output, "shard")
    words = read_shard(images, part_number(first), ["tags"])
    said = dict(zip(words["image_id"].to_pylist(), words["tags"].to_pylist(), strict=True))
    ids, found = labels["image_id"].to_numpy(), labels["label"].to_numpy()
    for row in sorted(rows, key=lambda row: (-row["images"], row["label"]))[:SHOWN_CLASSES]:
        own = ids[np.flatnonzero(found == row["label"])[:NUM_PICTURES]]
        descriptions = [", ".join(said[image_id] or ()) for image_id in own.tolist()]
        pictures = pictures_of(images, own, descriptions)
        yield TagClass(row["name"], row["images"], row["repeats"], pictures)


SECTION = Section("tags", "Tags", applies, facts, "tags")
