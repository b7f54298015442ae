"""Magic: whether bytes are an image, of a file whose name does not say so."""

from tasks.images import Limits, Unusable, check


def looks_like_image(data: bytes) -> bool:
    """Whether it is an image, if perhaps one that cannot be used."""
    try:
        check(data, Limits())
    except Unusable as unusable:
        return unusable.reason not in {"not_an_image", "empty"}
    return True
