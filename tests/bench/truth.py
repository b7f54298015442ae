"""Truth: what the images of a pile really show, which only benches know.

In: the list `pile-truth.csv` of a data set. Out: the class of each image, by its key.
"""

import csv
from pathlib import Path


def read_truth(path: Path) -> dict[str, str]:
    """What each image shows."""
    with path.open(encoding="utf-8") as file:
        return {row["key"]: row["label"] for row in csv.DictReader(file)}
