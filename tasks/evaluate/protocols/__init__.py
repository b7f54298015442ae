"""Protocols: the ways in which models are measured by their predictions, one file each.

In: the predictions of models on data sets. Out: rows of `metrics`. Each file has a function

    def measure(predictions: Predictions, num_classes: int, ...) -> Iterator[Row]
"""

from collections.abc import Mapping

import pyarrow as pa

Predictions = Mapping[str, Mapping[str, pa.Table]]  # by data set, then by model
