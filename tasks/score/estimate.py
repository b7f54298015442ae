"""What scoring will take, before it runs."""

from tasks.contract import Output
from tasks.estimate import Estimate, Work


def estimate_scoring(role: str, images: Output) -> Estimate:
    """What it takes to score these images."""
    text = f"{images.kept:,} images, but for those scored before"
    return Estimate((Work(role, "score", images.kept, text),))
