"""Decoded images: kept for the next epochs, while all of a data set fits.

    decoded = DecodedImages(limit_bytes=2**30)
    decoded.add((part, row), view.decode(data, position))
    decoded.get((part, row))

In: decoded images, by their part and row. Out: the same. When they become more than the limit, all
are forgotten and none is kept any more: of a large data set, few would be met again in time.
"""

from threading import Lock

from tasks.images import Scaled

Place = tuple[int, int]  # part and row


class DecodedImages:
    """Images by place; any thread may ask and add."""

    def __init__(self, limit_bytes: float) -> None:
        self._left_bytes = limit_bytes
        self._images: dict[Place, Scaled] = {}
        self._lock = Lock()

    def get(self, place: Place) -> Scaled | None:
        """The image, where it is kept."""
        return self._images.get(place)

    def add(self, place: Place, image: Scaled) -> None:
        """Keep an image, in place of the one that was there."""
        with self._lock:
            old = self._images.get(place)
            self._left_bytes -= image.pixels_HWC.nbytes - (old.pixels_HWC.nbytes if old else 0)
            if self._left_bytes >= 0:
                self._images[place] = image
            else:
                self._left_bytes = -1.0
                self._images.clear()
