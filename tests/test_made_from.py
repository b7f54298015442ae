"""Whatever is deleted from the store and made anew with other content changes all that follows."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import ProtegeError
from infra.store import Store, open_store
from tasks import contract, tables
from tasks.contract import Output
from tasks.duplicates.matching import signature_of
from tasks.duplicates.signature import signature
from tasks.evaluate.predictions import predict, read_predictions
from tasks.gather import gather
from tasks.images import Limits, decode, encode_png
from tasks.score import score
from tasks.shard import ShardOptions, read_many, shard
from tasks.topk import TopkOptions, topk
from tests.builders.models import CLASSES, colour_model
from tests.builders.sources import tar_of

RED, BLUE = (220, 20, 20), (20, 20, 220)
COUNT = 8

Source = Callable[[Path, list[tuple[int, int, int]]], None]


def _picture(colour: tuple[int, int, int], number: int) -> bytes:
    return encode_png(np.full((16, 16, 3), np.array(colour) + number, np.uint8))


def _contents(colours: list[tuple[int, int, int]]) -> dict[str, bytes]:
    return {f"{at:02d}.png": _picture(colour, at) for at, colour in enumerate(colours)}


def as_files(folder: Path, colours: list[tuple[int, int, int]]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in _contents(colours).items():
        (folder / name).write_bytes(data)


def as_tar(folder: Path, colours: list[tuple[int, int, int]]) -> None:
    tar_of(folder / "all.tar", _contents(colours))


def as_table(folder: Path, colours: list[tuple[int, int, int]]) -> None:
    folder.mkdir(exist_ok=True)
    table = pa.table({"image": pa.array(_contents(colours).values(), pa.binary())})
    pq.write_table(table, folder / "all.parquet")


def chain(root: Store, source: Path) -> tuple[Output, dict[str, Output]]:
    """The images of this source, and every stage that reads them."""
    images = shard(root, ShardOptions(source=str(source), images_per_shard=3))
    model = colour_model(root)
    scores = score(root, images, model)
    chosen = topk(root, scores, TopkOptions(k=3, drop_near_duplicates=False))
    return images, {
        "signatures": signature(root, images),
        "predictions": predict(root, model, images),
        "chosen": chosen,
        "lessons": gather(root, images, chosen),
    }


def contents(outputs: dict[str, Output]) -> dict[str, list[dict[str, object]]]:
    """The rows of the results."""
    found = {name: outputs[name].table(name).to_pylist() for name in ("signatures", "lessons")}
    predictions = read_predictions(outputs["predictions"])
    chosen = contract.read_rows(outputs["chosen"], tables.CHOSEN)
    return {**found, "predictions": predictions.to_pylist(), "chosen": chosen.to_pylist()}


def check_labels(outputs: dict[str, Output], images: Output) -> None:
    """Every result tells the colour of the image that is there now."""
    for lesson in outputs["lessons"].table("lessons").to_pylist():
        # No image is green, but green is given its best ones as well.
        assert lesson["labels"] in ([_class_of(lesson["image"])], [CLASSES.index("green")])
    pictures = [data for _, data in read_many(images, np.array(ids_of(images)))]
    predictions = read_predictions(outputs["predictions"], ["predicted"])
    assert predictions["predicted"].to_pylist() == [_class_of(data) for data in pictures]
    found = outputs["signatures"].table("signatures", ["thumbnail"])["thumbnail"].to_pylist()
    assert found == [signature_of(decode(data, Limits()))[1] for data in pictures]


def _class_of(data: bytes) -> int:
    red, _, blue = decode(data, Limits()).mean(axis=(0, 1))
    return CLASSES.index("red" if red > blue else "blue")


def ids_of(images: Output) -> list[int]:
    ids: list[int] = images.table("images", ["image_id"])["image_id"].to_pylist()
    return ids


def delete(folder: Path, what: str) -> None:
    if what == "whole":
        shutil.rmtree(folder)
    elif what == "pins":
        shutil.rmtree(folder / "pins")
    else:
        parts = sorted(folder.glob("part-*.parquet"))
        for part in parts if what == "parts" else parts[:1]:
            part.unlink()


@pytest.mark.parametrize("write", [as_files, as_tar, as_table])
@pytest.mark.parametrize("deleted", ["whole", "pins", "parts", "one part"])
def test_images_that_are_made_anew_change_every_descendant__or_are_refused(
    tmp_path: Path, root: Store, write: Source, deleted: str
) -> None:
    source = tmp_path / "pile"
    before, after = [RED, BLUE] * (COUNT // 2), [BLUE, RED] * (COUNT // 2)
    write(source, before)
    images, outputs = chain(root, source)
    check_labels(outputs, images)
    first = contents(outputs)

    write(source, after)
    folder = Path(images.uri)
    delete(folder, deleted)
    if deleted in ("whole", "pins"):
        images, outputs = chain(root, source)
        _, fresh = chain(open_store(str(tmp_path / "fresh")), source)
        assert contents(outputs) == contents(fresh) != first
    elif write is as_files and deleted == "parts":
        # These have the names and the sizes that were pinned, and nothing tells what they were.
        images, outputs = chain(root, source)
        check_labels(outputs, images)
    else:
        with pytest.raises(ProtegeError, match="files have changed"):
            chain(root, source)

    # And back again: nothing may be left of what was made in between.
    write(source, before)
    delete(folder, "whole")
    assert contents(chain(root, source)[1]) == first
