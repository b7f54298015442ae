"""Parquet: the images in a table, by its columns."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import ProtegeError
from infra.store import Address, Store, open_object
from tasks.pieces import PIECE_BYTES, PIECE_IMAGES
from tasks.shard.sources.columns import choose_column, describe_columns
from tasks.shard.sources.files import SourceFile
from tasks.shard.sources.labels import LABEL_NAMES, TAG_NAMES, label_text, tags_of
from tasks.shard.sources.names import words
from tasks.shard.sources.pages import ImagePlaces
from tasks.shard.sources.reading import BadContainer, Member, Reading

BUFFER_BYTES = 1 << 20
IMAGE_NAMES = words(
    "image images img jpg jpeg png webp bytes image_bytes img_bytes image_data data content "
    "picture photo"
)
KEY_NAMES = ("key", "__key__", "file_name", "filename", "path")
VALUE_SHOWN = 60


@dataclass(frozen=True)
class _Layout:
    """Which columns of a table hold what; `class_names` are those of numbered classes."""

    image: str
    label: str | None
    key: str | None
    tags: str | None
    class_names: list[str] | None

    @property
    def columns(self) -> list[str]:
        wanted = (self.image, self.label, self.key, self.tags)
        return [name for name in dict.fromkeys(wanted) if name is not None]


def read_parquet(store: Store, name: str, reading: Reading) -> Iterator[Member]:
    """The images of a table, one a row. Raises ProtegeError, naming column, row and value."""
    address, row = f"{store.uri}/{name}", 0
    with store.local_file(name) as file:
        # With a buffer, a column is read as it is needed instead of a whole row group at once.
        parquet = pq.ParquetFile(file, buffer_size=BUFFER_BYTES)
        layout = _layout(parquet.schema_arrow, reading, address)
        rows = _rows_per_batch(parquet.metadata)
        column = _image_bytes(parquet, layout) if reading.in_place else None
        for group in range(parquet.num_row_groups):
            places = None
            for batch in parquet.iter_batches(rows, row_groups=[group], columns=layout.columns):
                # A footer that is wrong is an error of the batch. Before that, a look at one of
                # its columns ends the process, for Arrow expects no exception there.
                if places is None and column is not None:
                    chunk = parquet.metadata.row_group(group).column(column)
                    places = ImagePlaces(file, chunk, parquet.schema.column(column))
                for values in batch.to_pylist():
                    yield _member(values, row, layout, reading, address, places)
                    row += 1


def _image_bytes(parquet: pq.ParquetFile, layout: _Layout) -> int | None:
    """Which column of the file has the bytes of the images; None where its path does not say it."""
    columns = [parquet.schema.column(at) for at in range(parquet.metadata.num_columns)]
    is_wrapped = pa.types.is_struct(parquet.schema_arrow.field(layout.image).type)
    path = f"{layout.image}.bytes" if is_wrapped else layout.image
    # A name may have a dot in it.
    found = [number for number, column in enumerate(columns) if column.path == path]
    if len(found) != 1 or columns[found[0]].physical_type != "BYTE_ARRAY":
        return None
    return found[0]


def _rows_per_batch(metadata: pq.FileMetaData) -> int:
    """How many rows a piece has, by the mean size of a row where they are largest."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    largest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    return max(1, min(PIECE_IMAGES, PIECE_BYTES // max(largest, 1)))


@dataclass(frozen=True)
class TableSize:
    """Rows of a table, and the classes that its labels name."""

    rows: int
    labels: set[str]


def table_size(file: SourceFile, reading: Reading) -> TableSize:
    """What a table holds, by its footer and its labels alone. Raises ProtegeError."""
    store, name = open_object(Address(file.uri))
    reading = replace(reading, label=file.label)
    with store.open_parquet(name) as parquet:
        rows = parquet.metadata.num_rows
        layout = _layout(parquet.schema, reading, file.uri)
        if layout.label is None:
            return TableSize(rows, {file.label} if file.label is not None else set())
        values = parquet.read([layout.label])[layout.label].to_pylist()
    labels = (_label(value, row, layout, file.uri) for row, value in enumerate(values))
    found = {label or file.label for label in labels}
    return TableSize(rows, {label for label in found if label is not None})


def _member(
    values: Mapping[str, Any],
    row: int,
    layout: _Layout,
    reading: Reading,
    address: str,
    places: ImagePlaces | None,
) -> Member:
    image = values[layout.image]
    # Hugging Face tables wrap the bytes together with a path.
    data = image["bytes"] if isinstance(image, dict) else image
    label = reading.label
    if layout.label is not None:
        label = _label(values[layout.label], row, layout, address) or label
    key = values.get(layout.key) if layout.key else None
    tags = tags_of(values[layout.tags]) if layout.tags else None
    name = f"{row:09d}" if key is None else str(key)
    return Member(name, data or b"", places.find(data) if places else None, label, tags)


def _label(value: Any, row: int, layout: _Layout, address: str) -> str | None:
    names = layout.class_names
    try:
        text = label_text(value)
        if names is None or text is None or isinstance(value, str):
            return text
        # Hugging Face writes -1 where a test set keeps its labels to itself.
        if text == "-1":
            return None
        if not text.isdecimal() or int(text) >= len(names):
            raise ValueError(f"its metadata names {len(names)} classes")
        return label_text(names[int(text)])
    except ValueError as error:
        raise ProtegeError(
            f"{address}: column {layout.label!r}, row {row}: {str(value)[:VALUE_SHOWN]!r} is no "
            f"label ({error})"
        ) from None


def _layout(schema: pa.Schema, reading: Reading, address: str) -> _Layout:
    kinds = {field.name: str(field.type) for field in schema}
    features = _features(schema)
    image, label = _image_column(schema, features, reading, address), None
    if reading.labelled:
        label = _label_column(kinds, reading, address)
    names = features.get(label or "", {}).get("names")
    key = next((name for name in KEY_NAMES if name in kinds and name != image), None)
    tags = next((name for name in TAG_NAMES if name in kinds), None)
    layout = _Layout(image, label, key, tags, names)
    twice = next((name for name in layout.columns if schema.names.count(name) > 1), None)
    if twice is not None:
        raise BadContainer(f"{address}: two columns have the name {twice!r}")
    return layout


def _image_column(
    schema: pa.Schema, features: Mapping[str, Any], reading: Reading, address: str
) -> str:
    kinds = {field.name: str(field.type) for field in schema}
    of_bytes = {field.name: kinds[field.name] for field in schema if _holds_bytes(field.type)}
    given = reading.columns.image
    if given in kinds and given not in of_bytes:
        raise ProtegeError(
            f"{address}: column {given!r} (options.image_column) holds {kinds[given]} and not "
            f"bytes. {describe_columns(kinds)}"
        )
    found = choose_column(
        kinds if given else of_bytes, given, IMAGE_NAMES, "options.image_column", address
    )
    others = [name for name in of_bytes if name.lower() not in LABEL_NAMES]
    pictures = [name for name in others if features.get(name, {}).get("_type") == "Image"]
    for guess in (pictures, others):
        if found is None and len(guess) == 1:
            found = guess[0]
    if found is None:
        raise BadContainer(
            f"{address}: a table of images needs a column 'image' of bytes, or another one of "
            f"bytes that options.image_column names. {describe_columns(kinds)}"
        )
    return found


def _label_column(kinds: Mapping[str, str], reading: Reading, address: str) -> str | None:
    given = reading.columns.label
    if given not in kinds and reading.label is not None:
        given = ""  # folders tell it, as in `<label_column>=cat/`
    found = choose_column(kinds, given, LABEL_NAMES, "options.label_column", address)
    if found is None and reading.label is None:
        raise ProtegeError(
            f"{address}: a table of labelled images needs a column 'label', or another one that "
            f"options.label_column names, or a folder named after its class. "
            f"{describe_columns(kinds)}"
        )
    return found


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """What Hugging Face datasets say of the columns in the schema's metadata."""
    try:
        body = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = body["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: value for name, value in features.items() if isinstance(value, dict)}


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        inner = kind.field("bytes").type if kind.get_field_index("bytes") >= 0 else kind
        return not pa.types.is_struct(inner) and _holds_bytes(inner)
    if pa.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
