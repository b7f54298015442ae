"""Names of the files that a training leaves, below the folder of its output."""

HISTORY = "history.parquet"
CHECKPOINTS = "checkpoints"
