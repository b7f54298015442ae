"""Options of the random changes of images while they are learned."""

from typing import Literal

from pydantic import Field

from tasks.options import Length, Options


class Augment(Options):
    """Random changes to each training image; 0 switches a change off."""

    crop_min_area: float = Field(0.08, ge=0.01, le=1)
    """Random resized crops keep at least this share of the area; 1 is no random crop."""
    flip: bool = True
    """Mirror half of the images."""
    rotate_degrees: float = Field(0, ge=0, le=180)
    """Rotate by up to this angle, in both directions."""
    translate: float = Field(0, ge=0, le=0.9)
    """Shift by up to this share of the side, in every direction."""
    scale: float = Field(0, ge=0, le=0.9)
    """Shrink or enlarge by up to this share of the size."""
    shear: float = Field(0, ge=0, le=1)
    """Shear by up to this tangent of the angle."""
    elastic: float = Field(0, ge=0, le=1)
    """Elastic deformation: standard deviation of a smooth random shift, as a share of the side."""
    erase: float = Field(0, ge=0, le=0.9)
    """Fill a random square with the mean colour; its side is up to this share of the image's."""
    colour: float = Field(0, ge=0, le=2)
    """Strength of SimCLR's jitter of brightness, contrast, saturation and hue (SimCLR: 1)."""
    grey: float = Field(0, ge=0, le=1)
    """Share of the images that lose their colour (SimCLR: 0.2)."""
    blur: float = Field(0, ge=0, le=1)
    """Share of the images that are blurred, with sigma 0.1 to 2 pixels (SimCLR: 0.5)."""
    randaugment_ops: int = Field(0, ge=0, le=16)
    """RandAugment: operations on each image, one after the other (Noisy Student: 2)."""
    randaugment_magnitude: int = Field(9, ge=0, le=30)
    """RandAugment: how strong they are (Noisy Student: 6 for its small networks to 27)."""
    randaugment_version: Literal["paper", "noisy_student"] = "paper"
    """RandAugment: the paper's 14 operations; or Noisy Student's 16, 3 times as strong."""
    mixup: float = Field(0, ge=0, le=10)
    """Mix pairs of images and their targets, in proportions from Beta(mixup, mixup)."""
    cutmix: float = Field(0, ge=0, le=10)
    """Paste a rectangle of a partner, of the share Beta(cutmix, cutmix); with mixup, half each."""
    off_at_end: Length = Length(amount=0, unit="steps")
    """Length of the end of the training without these, a few times as long as the EMA remembers."""


# Images as they are scored.
NO_CHANGES = Augment(crop_min_area=1, flip=False)


def check_augment(length: Length, augment: Augment) -> None:
    """Raise ValueError for an end without changes that is surely as long as its training.

    Lengths in different units are compared when the number of images is known.
    """
    end, is_known = augment.off_at_end, augment.off_at_end.unit == length.unit
    if is_known and end.amount and 0 < length.amount <= end.amount:
        raise ValueError(
            f"augment.off_at_end ({end}) must be shorter than length ({length}), or no image is "
            "changed at all"
        )
