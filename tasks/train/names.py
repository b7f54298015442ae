"""Names of the files that a training leaves, below the folder of its output."""

WEIGHTS = "weights.safetensors"
HISTORY = "history.parquet"
CHECKPOINTS = "checkpoints"
