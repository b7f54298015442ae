"""Preview: an output as HTML, for notebooks: what it is, and a strip of its pictures.

In: an output of any stage. Out: HTML text that needs no other file. Outputs without images (models,
scores, figures) have none.
"""

from collections.abc import Iterator
from html import escape

from tasks.chosen_files import images_behind
from tasks.contract import Output, part_names, part_number, read_pieces
from tasks.images import Unusable, thumbnail
from tasks.shard import read_images, read_many, read_shard
from tasks.tables import LESSONS

NUM_PICTURES = 12
STYLE = "width:48px;height:48px;object-fit:cover;image-rendering:auto;margin:1px"


def preview_html(output: Output) -> str:
    """What the output is, and some of its pictures. Raises ProtegeError for a damaged part."""
    rejected = f", {output.rejected:,} rejected" if output.rejected else ""
    head = f"<b>{escape(output.stage)}</b>: {output.kept:,} rows{rejected}"
    strip = "".join(
        f'<img src="{uri}" style="{STYLE}" alt="{escape(title)}" title="{escape(title)}">'
        for uri, title in _pictures(output)
    )
    address = f"<code>{escape(output.uri)}</code>"
    return f"<div>{head}<br>{address}{f'<br>{strip}' if strip else ''}</div>"


def _pictures(output: Output) -> Iterator[tuple[str, str]]:
    """(data URI, title) of the first images that can be decoded."""
    kinds = {"shard": _sharded, "gather": _lessons, "topk": _chosen}
    if output.stage not in kinds:
        return
    for data, title in kinds[output.stage](output):
        try:
            yield thumbnail(data).uri, title
        except Unusable:
            continue


def _sharded(images: Output) -> Iterator[tuple[bytes, str]]:
    """The first images of the first shard."""
    for name in part_names(images)[:1]:
        keys = read_shard(images, part_number(name), ["key"])["key"].to_pylist()
        for key, (_, data) in zip(keys[:NUM_PICTURES], read_images(images, part_number(name))):
            yield data, key


def _lessons(lessons: Output) -> Iterator[tuple[bytes, str]]:
    """The first lessons, with their classes."""
    classes = lessons.classes
    for name in part_names(lessons)[:1]:
        rows = read_pieces(lessons.store, name, LESSONS, ["image", "labels"])
        for row in next(rows, LESSONS.empty_table()).slice(0, NUM_PICTURES).to_pylist():
            yield row["image"], ", ".join(classes[label] for label in row["labels"])


def _chosen(chosen: Output) -> Iterator[tuple[bytes, str]]:
    """The best image of each of the first classes."""
    images = images_behind(chosen)
    if images is None:
        return
    table = chosen.table("chosen", ["label", "rank", "image_id"])
    best = table.filter(table["rank"].to_numpy() == 0).slice(0, NUM_PICTURES)
    found = dict(read_many(images, best["image_id"].to_numpy()))
    for row in best.to_pylist():
        yield found[row["image_id"]], chosen.classes[row["label"]]
