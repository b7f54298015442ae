"""Tables: every Arrow schema that protege writes, with a note on each column.

Writers are given one of these schemas and readers check it; nothing infers a type. The notes
travel in the files, and `protege show` prints them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True)
class Layout:
    """Codecs and encodings of columns; the others are not compressed, and have dictionaries.

    One codec may be given for all. What is in `hashed_elsewhere` is not in the digest of a part,
    because another column has its hash.
    """

    compression: str | Mapping[str, str]
    encodings: Mapping[str, str] = field(default_factory=dict)
    hashed_elsewhere: tuple[str, ...] = ()


ZSTD = Layout("zstd")


def _field(name: str, kind: pa.DataType, note: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"note": note})


def _schema(name: str, *fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, metadata={"table": name})


IMAGE_ID = _field("image_id", pa.int64(), "shard number in the high 32 bits, row in the low 32")

PINS = _schema(
    "pins",
    _field("key", pa.string(), "name of the image or container, relative to its source"),
    _field("shard", pa.int32(), "number of the shard that it was assigned to"),
    _field("row", pa.int32(), "row in that shard"),
    _field("uri", pa.string(), "address of the file"),
    _field("size", pa.int64(), "size of the file in bytes"),
    _field("version", pa.string(), "mark of the file's content when it was pinned"),
    _field("label", pa.string(), "true class, where the source tells it", nullable=True),
    _field("tags", pa.list_(pa.string()), "tags, where the source has them", nullable=True),
    _field("recheck_of", pa.int64(), "reject that this is another attempt at", nullable=True),
    _field("reason", pa.string(), "why that one was rejected", nullable=True),
)

IMAGES = _schema(
    "images",
    IMAGE_ID,
    _field("image", pa.binary(), "encoded image as it was found", nullable=True),
    _field("uri", pa.string(), "file that holds the image, when it was left there", nullable=True),
    _field("offset", pa.int64(), "its first byte in that file, or in its page", nullable=True),
    _field("page_offset", pa.int64(), "first byte of its compressed page", nullable=True),
    _field("page_bytes", pa.int32(), "number of bytes of that page", nullable=True),
    _field("page_decompressed_bytes", pa.int32(), "the same, decompressed", nullable=True),
    _field("page_codec", pa.string(), "how that page is compressed", nullable=True),
    _field("size", pa.int64(), "number of bytes of the encoded image"),
    _field("key", pa.string(), "name of the image, relative to its source"),
    _field("label", pa.string(), "true class, where the source tells it", nullable=True),
    _field("tags", pa.list_(pa.string()), "tags, where the source has them", nullable=True),
    _field("content_hash", pa.uint64(), "hash of the bytes, which may lie in another file"),
)
# Encoded images cannot be pressed any further, and none of them is there twice.
IMAGES_LAYOUT = Layout(
    dict.fromkeys(("image_id", "key", "label"), "zstd"),
    {"image": "PLAIN"},
    hashed_elsewhere=("image",),
)

REJECTS = _schema(
    "rejects",
    IMAGE_ID,
    _field("key", pa.string(), "name of the image, relative to its source"),
    _field("reason", pa.string(), "why it was rejected, from a closed list"),
    _field("detail", pa.string(), "what the decoder or the store said"),
)


PHASH = _field("phash", pa.uint64(), "perceptual hash: of near-duplicates, few of its bits differ")
THUMBNAIL = _field("thumbnail", pa.binary(192), "8 x 8 RGB pixels, which confirm near-duplicates")
SIGNATURES = _schema("signatures", IMAGE_ID, PHASH, THUMBNAIL)
# Neither can be pressed; a hash is a random number.
SIGNATURES_LAYOUT = Layout(
    "none", {"image_id": "DELTA_BINARY_PACKED", "phash": "PLAIN", "thumbnail": "PLAIN"}
)

LEAKS = _schema(
    "leaks",
    IMAGE_ID,
    _field("labelled_id", pa.int64(), "image_id of its copy among the labelled images"),
    _field("exact", pa.bool_(), "the same bytes; else the same picture, re-encoded or resized"),
)

TAGGED = ("tag_labels", "tag_log_odds")
EMBEDDING = "embedding"
VIEW = ("descriptor", "luma")


def score_columns(rank: int) -> tuple[str, str]:
    """The columns of the class in a place among the P best (0 is the best), and of its log-odds."""
    return f"label_{rank}", f"log_odds_{rank}"


def scores(top_p: int, embedding_bytes: int = 0, *, descriptors: bool = False) -> pa.Schema:
    """The `scores` schema for the P best classes of each image: columns of their own for each.

    With so many bytes of an embedding, it has a column of these; with `descriptors`, it has what
    shows which images are crops of others.
    """
    fields = [IMAGE_ID]
    for rank in range(top_p):
        label, log_odds = score_columns(rank)
        fields += [
            _field(label, pa.uint16(), f"class in place {rank}, as an index; 0 is the best"),
            _field(log_odds, pa.float32(), "log p/(1-p) of it; the probability is its sigmoid"),
        ]
    tags, tag_log_odds = TAGGED
    # The columns that a choice reads lie side by side, so that one request brings them.
    fields += [
        PHASH,
        _field(tags, pa.list_(pa.uint16()), "classes whose names are among the image's tags"),
        _field(tag_log_odds, pa.list_(pa.float32()), "log-odds of these, be they high or low"),
        THUMBNAIL,
    ]
    if descriptors:
        descriptor, luma = VIEW
        fields += [
            _field(descriptor, pa.binary(128), "features as 128 signed bytes, which keep angles"),
            _field(luma, pa.binary(256), "16 x 16 pixels of brightness"),
        ]
    if embedding_bytes:
        note = "features before the last layer, of length 1, as little-endian float16"
        fields.append(_field(EMBEDDING, pa.binary(embedding_bytes), note))
    return _schema("scores", *fields)


def scores_schema(extra: Mapping[str, Any]) -> pa.Schema:
    """The schema of an output of `score`, by what its manifest says besides."""
    descriptors = extra.get("descriptors", False)
    return scores(extra["top_p"], extra.get("embedding_bytes", 0), descriptors=descriptors)


def scores_layout(schema: pa.Schema) -> Layout:
    """How a part of `scores` lies on disk: written once, read many times (docs/topk.md)."""
    columns = [name for name in schema.names if name.startswith("log_odds_")]
    plain = [name for name in (*VIEW, EMBEDDING) if name in schema.names]
    return Layout(
        compression=dict.fromkeys(columns, "lz4"),
        encodings={
            **SIGNATURES_LAYOUT.encodings,
            **dict.fromkeys(columns, "BYTE_STREAM_SPLIT"),
            **dict.fromkeys(plain, "PLAIN"),
        },
    )


CHOSEN = _schema(
    "chosen",
    _field("label", pa.int32(), "class, as an index into the teacher's list of classes"),
    _field("rank", pa.int32(), "place within the class, 0 is the best"),
    IMAGE_ID,
    _field("log_odds", pa.float32(), "log p/(1-p) that the teacher gave to this class"),
    _field("repeats", pa.int32(), "how often it is taken; more than once where a class is short"),
)
CHOSEN_LAYOUT = Layout(
    compression={"log_odds": "lz4"},
    encodings={
        "rank": "DELTA_BINARY_PACKED",
        "image_id": "PLAIN",
        "log_odds": "BYTE_STREAM_SPLIT",
    },
)

CLASSES = _schema(
    "classes",
    _field("label", pa.int32(), "class, as an index into the teacher's list of classes"),
    _field("name", pa.string(), "name of the class"),
    _field("candidates", pa.int64(), "images that competed for this class"),
    _field("kept", pa.int32(), "images that were chosen, at most K"),
    _field("kth_log_odds", pa.float32(), "log-odds of the last image chosen", nullable=True),
    _field("kth_probability", pa.float64(), "the same as a probability", nullable=True),
    _field("ties_at_edge", pa.int64(), "chosen images with exactly the log-odds of the last"),
    _field("dropped_near_duplicates", pa.int64(), "near-duplicates of a better one"),
    _field("dropped_labelled", pa.int64(), "near-duplicates of a labelled image"),
    _field("dropped_test", pa.int64(), "near-duplicates of a test image"),
    _field("certified", pa.bool_(), "no image cut off by P could have ranked (design: exactness)"),
    _field(
        "histogram",
        pa.list_(pa.int64()),
        "candidates per bin of log-odds, lowest first (of many images, from a sample)",
    ),
)

TAG_LABELS = _schema(
    "tag_labels",
    _field("label", pa.int32(), "class that a tag of the image teaches, as an index"),
    IMAGE_ID,
    _field("repeats", pa.int32(), "how often the image is taken; more than once for rare classes"),
)
TAGS = _schema(
    "tags",
    _field("tag", pa.string(), "tag, in the form in which tags are compared"),
    _field("images", pa.int64(), "images that have it"),
    _field("classes", pa.list_(pa.string()), "classes that it teaches; none, if it maps to none"),
)
TAG_CLASSES = _schema(
    "tag_classes",
    _field("label", pa.int32(), "class that tags teach, as an index"),
    _field("name", pa.string(), "name of the class"),
    _field("images", pa.int64(), "images with a tag of it"),
    _field("repeats", pa.float64(), "how often an image of it is taken, on average, at least"),
)

VOTES = _schema(
    "votes",
    _field("label", pa.int32(), "class that the image was chosen for, as an index"),
    _field("rank", pa.int32(), "place within the class, 0 is the best"),
    IMAGE_ID,
    _field("votes", pa.int32(), "members of the committee that give the image this class"),
)
PRECISION = _schema(
    "precision",
    _field("label", pa.int32(), "class, as an index"),
    _field("name", pa.string(), "name of the class"),
    _field("sampled", pa.int32(), "chosen images that the committee was asked about"),
    _field("unanimous", pa.int32(), "those that all members give this class"),
    _field("estimate", pa.float64(), "estimated share that is of this class", nullable=True),
    _field("low", pa.float64(), "lower end of its interval", nullable=True),
    _field("high", pa.float64(), "upper end of its interval", nullable=True),
)

LESSONS = _schema(
    "lessons",
    IMAGE_ID,
    _field("image", pa.binary(), "encoded image"),
    _field("labels", pa.list_(pa.int32()), "classes to learn from this image"),
    _field(
        "weights", pa.list_(pa.float32()), "weight of each of these classes; they sum to 1, if any"
    ),
)
SUBSET = _schema(
    "subset",
    IMAGE_ID,
    _field("key", pa.string(), "name of the image, relative to its source"),
    _field("label", pa.string(), "its class"),
)

LESSONS_LAYOUT = Layout({"image_id": "zstd"}, {"image": "PLAIN"})

HISTORY = _schema(
    "history",
    _field("step", pa.int64(), "steps done"),
    _field("images", pa.int64(), "images seen, with repeats"),
    _field("loss", pa.float32(), "mean training loss since the row before"),
    _field("learning_rate", pa.float32(), "learning rate of the last step"),
    _field(
        "measurements",
        pa.map_(pa.string(), pa.float32()),
        "means of the objective's named measurements since the row before",
    ),
)

PREDICTIONS = _schema(
    "predictions",
    IMAGE_ID,
    _field("label", pa.int32(), "true class, as an index into the model's classes", nullable=True),
    _field("predicted", pa.int32(), "class with the highest logit"),
    _field("rank", pa.int32(), "place of the true class, 0 is the best", nullable=True),
    _field("confidence", pa.float32(), "probability of the predicted class"),
    _field("loss", pa.float32(), "minus log p of the true class, in nats", nullable=True),
)


def predictions_with_logits(num_classes: int) -> pa.Schema:
    """The `predictions` schema with all logits of each image.

    They are plain bytes, because Parquet writes and reads lists of numbers many times slower.
    """
    logits = _field("logits", pa.binary(4 * num_classes), "a little-endian float32 for each class")
    return PREDICTIONS.append(logits)


METRICS = _schema(
    "metrics",
    _field("model", pa.string(), "role of the model in the campaign, or `chosen`"),
    _field("dataset", pa.string(), "name of the test set; empty for `chosen`"),
    _field("slice", pa.string(), "part of the test set; empty for the whole"),
    _field("measure", pa.string(), "what was measured"),
    _field("label", pa.int32(), "class, when it is a measure of one", nullable=True),
    _field("value", pa.float64(), "the figure"),
    _field("count", pa.int64(), "images that it rests on"),
)

ROW_BITS = 32


def image_id(shard: int, row: int) -> int:
    """The id of a row: shard number in the high 32 bits, row in the low 32."""
    return (shard << ROW_BITS) | row


def table_name(schema: pa.Schema) -> str:
    """The name under which a schema was declared, or `?` for a file that is not ours."""
    name: bytes = (schema.metadata or {}).get(b"table", b"?")
    return name.decode()


def ids_by_shard(
    image_ids: npt.NDArray[np.int64],
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Each shard of these ids and its own, each once, in order."""
    unique_ids = np.unique(image_ids)
    shards, starts = np.unique(unique_ids >> ROW_BITS, return_index=True)
    yield from zip(shards.tolist(), np.split(unique_ids, starts[1:]))
