"""Tuning fashion: data like the demo's to choose settings by, without any photograph that tests.

In: the files of Fashion-MNIST, a folder and a seed. Out: what `write_fashion` writes, from the
60,000 photographs that are not for testing: of the pile, 2,000 are taken to test on.
"""

from pathlib import Path

from flows.demo import fashion

HELD_OUT = 2_000


def write_tuning_fashion(files: Path, folder: Path, seed: int, num_labels: int = 1_000) -> None:
    """Write the data of one seed, or leave them when they are complete. Raises ProtegeError."""
    if folder.exists():
        return
    everything = fashion.read_photographs(files, "train")
    labelled, rest = fashion.split_fashion(everything.labels_N, seed, num_labels)
    held_out, pile = rest[:HELD_OUT], rest[HELD_OUT:]
    fashion.write_split(folder, everything, labelled, pile, everything[held_out], seed)
