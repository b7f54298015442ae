"""Options of the stage `score`."""

from typing import ClassVar

from pydantic import Field

from models.precision import Precision
from tasks.options import CompileChoice, Options


class ScoreSpeed(Options):
    """What changes how fast scoring runs, not what comes out."""

    decode_threads: int = Field(0, ge=0, le=256)
    """Images decoded at a time in each worker; 0: two, or with a GPU one for each of its cores."""
    decode_processes: CompileChoice = "auto"
    """Whether they are decoded in processes of their own; auto: where the worker has a GPU."""
    compile: CompileChoice = "auto"
    """Whether torch compiles the network; auto: on GPUs, where a measurement says so."""


class ScoreOptions(Options):
    """Options of the stage `score`."""

    NOT_IN_FINGERPRINT: ClassVar[frozenset[str]] = frozenset({"speed", "max_reject_percent"})

    top_p: int = Field(10, ge=1, le=1000)
    """Classes kept of each image (the paper's P); at most the number of classes."""
    batch_size: int = Field(256, ge=1, le=65_536)
    """Images in a forward pass; the last one of a shard is padded, so all have the same shape."""
    precision: Precision = "float32"
    """Arithmetic of the network; its last layer and the log-odds are always in float32."""
    flip: bool = False
    """Average the logits of every image and of its mirror image, which takes twice as long."""
    embeddings: bool = False
    """Keep the features before the last layer, too, as float16: 1 kB an image with a ResNet-18."""
    descriptors: bool = False
    """Keep 384 bytes of an image by which topk.drop_crops knows its crops and brighter copies."""
    max_reject_percent: float = Field(5, ge=0, le=100)
    """The stage fails when more than this share of the images cannot be scored."""
    speed: ScoreSpeed = ScoreSpeed()
    """What changes how fast it runs, not what comes out."""
