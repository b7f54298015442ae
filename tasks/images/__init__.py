"""Images: the decoder, and what becomes of pixels before a network sees them."""

from tasks.images.colours import Pixels
from tasks.images.decode import IMAGES_VERSION, check, decode, encode_png
from tasks.images.thumbnail import Thumbnail, thumbnail, thumbnail_of
from tasks.images.transform import PIXEL_SCALES, Inputs, Interpolation, random_crop, square
from tasks.images.unusable import REASONS, Limits, Unusable

__all__ = [
    "IMAGES_VERSION",
    "PIXEL_SCALES",
    "REASONS",
    "Inputs",
    "Interpolation",
    "Limits",
    "Pixels",
    "Thumbnail",
    "Unusable",
    "check",
    "decode",
    "encode_png",
    "random_crop",
    "square",
    "thumbnail",
    "thumbnail_of",
]
