"""Images: the decoder, and what becomes of pixels before a network sees them."""

from tasks.images.colours import Pixels
from tasks.images.decode import IMAGES_VERSION, check, decode, decode_scaled, encode_png
from tasks.images.scaled import Box, Scaled, random_box, scale_for
from tasks.images.thumbnail import Thumbnail, thumbnail, thumbnail_of
from tasks.images.transform import PIXEL_SCALES, Inputs, Interpolation, square
from tasks.images.unusable import REASONS, Limits, Unusable

__all__ = [
    "IMAGES_VERSION",
    "PIXEL_SCALES",
    "REASONS",
    "Box",
    "Inputs",
    "Interpolation",
    "Limits",
    "Pixels",
    "Scaled",
    "Thumbnail",
    "Unusable",
    "check",
    "decode",
    "decode_scaled",
    "encode_png",
    "random_box",
    "scale_for",
    "square",
    "thumbnail",
    "thumbnail_of",
]
