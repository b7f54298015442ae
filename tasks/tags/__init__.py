"""tags: what the tags of images teach: classes, and how often each image is taken for them.

In: `images` shards with tags, and a table of which tag means which class; without it, each tag is a
class of its own. Out: `tag_labels`, the classes of each image and how often it is taken, and the
tables `tags`, what became of every tag, and `tag_classes`. `gather` makes a training set of it, in
which an image of k classes teaches each of them 1/k (`multi_label="share"`).
"Exploring the limits of weakly supervised pretraining" (Mahajan et al. 2018), section 2.

1. `write_counts`, for each group of shards: counts tags and classes;
2. `label_images`, for each shard: the classes and the repeats of every image.

    labels = tags(root, pile, TagOptions(table="tags.csv"))
    lessons = gather(root, pile, labels, GatherOptions(multi_label="share"))

mapping.py      which classes a tag teaches
counts.py       how many images have each tag
vocabulary.py   the classes that are kept, and how often their images are taken
options.py      options
"""

import functools
import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from infra.errors import ProtegeError
from infra.executors import Executor, Inline
from infra.store import Store
from tasks import contract, tables
from tasks.contract import (
    Made,
    OnProgress,
    Output,
    PartId,
    PartWriter,
    Receipt,
    RowCounts,
    Session,
    Target,
    make_output,
    run_shards,
    silent,
)
from tasks.shard import read_shard
from tasks.tags.counts import (
    COUNTS,
    CountsJob,
    TagCounts,
    counts_name,
    num_files,
    read_counts,
    write_counts,
)
from tasks.tags.mapping import TagMapping, canonical_tags, read_mapping
from tasks.tags.options import TagOptions
from tasks.tags.vocabulary import (
    Vocabulary,
    classes_table,
    make_vocabulary,
    meanings,
    tags_table,
)

STAGE = "tags"
VERSION = 1
TAGS = "tags.parquet"
TAG_CLASSES = "tag_classes.parquet"
TAUGHT = "taught_images"
LESSONS = "lessons"
LISTED_TAGS = 10
logger = logging.getLogger(__name__)

__all__ = [
    "LESSONS",
    "STAGE",
    "TAGS",
    "TAG_CLASSES",
    "TAUGHT",
    "TagOptions",
    "read_mapping",
    "read_tag_labels",
    "tags",
]


@dataclass(frozen=True)
class TagsJob:
    """What every worker of the second step is given."""

    uri: str
    images: Output
    options: TagOptions
    mapping: TagMapping
    vocabulary: Vocabulary


def tags(
    root: Store,
    images: Output,
    options: TagOptions = TagOptions(),
    *,
    executor: Executor = Inline(),
    on_progress: OnProgress = silent,
) -> Output:
    """Label the images by their tags, or take the output that is there.

    Raises ProtegeError for a table that cannot be read, and when fewer than two classes have
    tagged images; Failures.
    """
    mapping = read_mapping(options.table)
    content = {"table": mapping.digest}
    target = Target(root, STAGE, VERSION, options, {"images": images}, {}, content, scratch=COUNTS)
    make = functools.partial(_make, target.uri, images, options, mapping, executor)
    output = make_output(target, make, on_progress)
    _log_unmapped(output)
    return output


def read_tag_labels(output: Output) -> pa.Table:
    """The `tag_labels` table."""
    return contract.read_rows(output, tables.TAG_LABELS)


def _make(
    uri: str,
    images: Output,
    options: TagOptions,
    mapping: TagMapping,
    executor: Executor,
    session: Session,
) -> Made:
    counts = _count(CountsJob(uri, images, mapping), executor, session)
    vocabulary = make_vocabulary(counts, options)
    _check(vocabulary, counts, images, options)
    label = functools.partial(label_images, TagsJob(uri, images, options, mapping, vocabulary))
    ids = contract.part_ids(images)
    parts = run_shards(session.store, ids, label, executor, session.on_progress)
    taught = meanings(counts, mapping, vocabulary)
    named = {TAGS: tags_table(counts, taught), TAG_CLASSES: classes_table(vocabulary)}
    others = [
        contract.write_part(session.store, name, table, RowCounts(0, 0, 0))
        for name, table in named.items()
    ]
    unmapped = [tag for tag, classes in taught.items() if not classes]
    extra = {
        "classes": list(vocabulary.classes),
        "images": images.kept,
        **{name: sum(int(part.facts[name]) for part in parts) for name in (TAUGHT, LESSONS)},
        "tags": len(taught),
        "unmapped_tags": len(unmapped),
        "unmapped_examples": unmapped[:LISTED_TAGS],
    }
    return Made([*parts, *others], extra)


def _count(job: CountsJob, executor: Executor, session: Session) -> TagCounts:
    """The sum over all images."""
    ids = map(PartId, range(num_files(job.images)))
    write = functools.partial(write_counts, job)
    run_shards(session.store, ids, write, executor, session.keep_lease, counts_name, "count")
    total = TagCounts()
    for number in range(num_files(job.images)):
        counts = read_counts(session.store, number)
        total.tags.update(counts.tags)
        total.classes.update(counts.classes)
    return total


def _check(vocabulary: Vocabulary, counts: TagCounts, images: Output, options: TagOptions) -> None:
    """Raise ProtegeError when the tags teach nothing."""
    if len(vocabulary.classes) >= 2:
        return
    source = images.options["source"]
    if not counts.tags:
        raise ProtegeError(
            f"no image of {source} has a tag. Tags come from a column 'tags' of a list or table, "
            "or from .json and .txt files in tars (docs/sources.md)"
        )
    listed = ", ".join(tag for tag, _ in counts.tags.most_common(LISTED_TAGS))
    found = f"{vocabulary.classes[0]!r} alone" if vocabulary.classes else "no class"
    if len(counts.classes) >= 2:
        remedy = f"lower options.min_images, which is {options.min_images:,}"
    elif options.table:
        remedy = "give options.table lines for some of them"
    else:
        remedy = "take images with more tags, or a table of what they mean (options.table)"
    raise ProtegeError(
        f"the tags of {source} teach {found}, and 2 classes are needed: {remedy}. The most "
        f"frequent tags are {listed}"
    )


def _log_unmapped(output: Output) -> None:
    extra = output.body["extra"]
    logger.info(
        "%s of %s images have tags that teach one of %s classes",
        f"{extra[TAUGHT]:,}",
        f"{extra['images']:,}",
        f"{len(extra['classes']):,}",
    )
    if extra["unmapped_tags"]:
        logger.info(
            "%s of %s tags teach none of these classes, the most frequent are %s",
            f"{extra['unmapped_tags']:,}",
            f"{extra['tags']:,}",
            ", ".join(extra["unmapped_examples"]),
        )


def label_images(job: TagsJob, part: PartId) -> Receipt:
    """Make the part of one shard: the classes of each image that has any, and its repeats."""
    writer = PartWriter(job.uri, part)
    rows = read_shard(job.images, part.number, ["tags"])
    writer.lap("read")
    index = {name: label for label, name in enumerate(job.vocabulary.classes)}
    ids: list[int] = []
    labels: list[list[int]] = []
    for image_id, found in zip(rows["image_id"].to_pylist(), rows["tags"].to_pylist(), strict=True):
        names = job.mapping.classes_of(canonical_tags(found))
        if taught := sorted(index[name] for name in names if name in index):
            ids.append(image_id)
            labels.append(taught)
    ids_N, counts_N = np.array(ids, np.int64), [len(taught) for taught in labels]
    repeats_N = job.vocabulary.repeats_of(ids_N, labels, job.options.seed)
    columns = [
        pa.array([label for taught in labels for label in taught], pa.int32()),
        pa.array(np.repeat(ids_N, counts_N)),
        pa.array(np.repeat(repeats_N, counts_N)),
    ]
    table = pa.Table.from_arrays(columns, schema=tables.TAG_LABELS)
    writer.lap("compute")
    return writer.write(table, facts={TAUGHT: str(len(ids)), LESSONS: str(repeats_N.sum())})
