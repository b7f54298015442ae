"""The networks, losses, augmentations and schedules: arithmetic, no files, no cluster."""
