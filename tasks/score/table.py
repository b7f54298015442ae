"""Table: the rows of a part of `scores`, gathered batch by batch.

In: the rows of a shard, what is decoded of each, and the logits of each batch. Out: the table.

    scores = ShardScores(rows, classes, tables.scores(top_p=10))
    scores.add_image(row, signature)       # from any thread
    scores.add_batch(batch)
    scores.table()
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks import tables
from tasks.duplicates.matching import THUMBNAIL_BYTES
from tasks.duplicates.prepare import Signature
from tasks.duplicates.views import descriptors_of
from tasks.images import Unusable
from tasks.score.tags import TagScores

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.inference.pipeline import Batch

DESCRIPTOR, LUMA = tables.VIEW
OPTIONAL = (*tables.VIEW, tables.EMBEDDING)


class ShardScores:
    """The scores of the images of a shard; those with `problems`, by row, are not scored."""

    def __init__(self, rows: pa.Table, classes: Sequence[str], schema: pa.Schema) -> None:
        count, self.schema = len(rows), schema
        self.top_p = sum(name.startswith("label_") for name in schema.names)
        self._num_classes = len(classes)
        # The columns that are kept only where somebody wants them.
        self._others = {name: [b""] * count for name in schema.names if name in OPTIONAL}
        self._ids_N = rows["image_id"].to_numpy()
        self._labels_NP = np.zeros((count, self.top_p), np.uint16)
        self._log_odds_NP = np.zeros((count, self.top_p), np.float32)
        self._phashes_N = np.zeros(count, np.uint64)
        self._thumbnails_N = [b""] * count
        self._tags = TagScores(rows["tags"].to_pylist(), classes)
        self.problems: dict[int, Unusable] = {}

    def add_image(self, row: int, signature: Signature) -> None:
        """Take the signature of an image. Threads may do so at the same time."""
        self._phashes_N[row], self._thumbnails_N[row] = signature.phash, signature.thumbnail
        if LUMA in self._others:
            self._others[LUMA][row] = signature.luma

    def add_batch(self, batch: "Batch") -> None:
        """Take the best classes and those of the tags from the logits of a batch.

        Its features stand behind the logits, where they are wanted.
        """
        from models.losses import top_log_odds

        logits_BC = batch.outputs_BC[:, : self._num_classes]
        labels_BP, log_odds_BP = top_log_odds(logits_BC, self.top_p)
        values_BP = log_odds_BP.cpu().numpy()
        self._labels_NP[batch.rows] = labels_BP.cpu().numpy().astype(np.uint16)
        self._log_odds_NP[batch.rows] = values_BP
        self._tags.add_batch(batch.first, logits_BC)
        features_BD = batch.outputs_BC[:, self._num_classes :]
        if tables.EMBEDDING in self._others:
            self._others[tables.EMBEDDING][batch.rows] = embeddings(features_BD)
        if DESCRIPTOR in self._others:
            numbers_BF = descriptors_of(features_BD.cpu().numpy())
            self._others[DESCRIPTOR][batch.rows] = [row.tobytes() for row in numbers_BF]
        self.problems |= batch.problems
        for place in np.flatnonzero(~np.isfinite(values_BP).all(axis=1)).tolist():
            overflow = Unusable("not_finite", "the teacher's log-odds are not finite")
            self.problems.setdefault(batch.first + place, overflow)

    def table(self) -> pa.Table:
        """The part of `scores`."""
        rows = np.setdiff1d(np.arange(len(self._ids_N)), list(self.problems))
        thumbnails = [self._thumbnails_N[row] for row in rows.tolist()]
        table = scores_table(
            self._ids_N[rows],
            self._labels_NP[rows],
            self._log_odds_NP[rows],
            self._tags.columns(rows),
            [pa.array(self._phashes_N[rows]), pa.array(thumbnails, pa.binary(THUMBNAIL_BYTES))],
        )
        for name, values_N in self._others.items():
            field = self.schema.field(name)
            values = pa.array([values_N[row] for row in rows.tolist()], field.type)
            table = table.append_column(field, values)
        return table


def embeddings(features_BD: "Tensor") -> list[bytes]:
    """The features of each image, of length 1, as little-endian float16."""
    from torch.nn import functional

    unit_BD = functional.normalize(features_BD, dim=1).cpu().numpy()
    return [row.tobytes() for row in unit_BD.astype("<f2")]


def scores_table(
    ids_N: npt.NDArray[np.int64],
    labels_NP: npt.NDArray[np.uint16],
    log_odds_NP: npt.NDArray[np.float32],
    tagged: Sequence[pa.Array],
    signatures: Sequence[pa.Array],
) -> pa.Table:
    """A part of `scores`; `tagged` and `signatures` are two columns each."""
    columns = [pa.array(ids_N, pa.int64())]
    for rank in range(labels_NP.shape[1]):
        columns += [pa.array(labels_NP[:, rank]), pa.array(log_odds_NP[:, rank])]
    phashes, thumbnails = signatures
    columns += [phashes, *tagged, thumbnails]
    return pa.Table.from_arrays(columns, schema=tables.scores(labels_NP.shape[1]))
