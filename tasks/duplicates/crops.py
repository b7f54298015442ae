"""Crops: which images are parts of others, or brighter or darker copies of them.

In: the views of images (views.py), and pairs of them whose features are similar. Out: which pairs
show the same picture.

Images of one class have similar features, so that these prove nothing. The luma picture of one
image is laid over a part of the other's: of each side, 80 to 100 %, wherever it lies, in steps of
5 %. They show the same picture when the correlation with one of these windows is at least 0.9;
brightness and contrast do not change it. Pictures of 8 x 8 pixels rule most pairs out before. All
sums are of whole numbers that float32 has exactly, so that a pair is decided alike in any block.

    same_M = show_the_same(views, others, rows_M, columns_M)
"""

import functools

import numpy as np
import numpy.typing as npt

from tasks.compiled import compiled
from tasks.duplicates.matching import Flags, Positions
from tasks.duplicates.views import LUMA_PIXELS, Lumas, Views

COARSE_PIXELS = 8
SCALES_PERCENT, STEP_PERCENT = (100, 95, 90, 85, 80), 5
COARSE_SCALES_PERCENT, COARSE_STEP_PERCENT = (100, 90, 80), 10
MIN_CORRELATION = 0.9
MIN_COARSE_CORRELATION = 0.8  # below it, no window between those that were tried is good
MIN_CONTRAST = 8.0  # of 255 levels; what has less is little more than noise
TAPS, TAP_SUM = 3, 32  # a pixel of a window is a weighted sum of three pixels
ROUNDED = 2.0**-8  # of a pixel of a window, so that float32 has sums of squares exactly
WINDOW_SCALE = TAP_SUM**2 * ROUNDED  # a window's values are so many times as large as a picture's

Numbers = npt.NDArray[np.float32]
Windows = tuple[npt.NDArray[np.int64], Numbers]


def show_the_same(views: Views, others: Views, rows_M: Positions, columns_M: Positions) -> Flags:
    """Whether each of these rows shows the same picture as its column of the others, (M,)."""
    rows, row_of_M = _used(rows_M, len(views))
    columns, column_of_M = _used(columns_M, len(others))
    firsts, seconds = views.lumas_NLL[rows], others.lumas_NLL[columns]
    first_NWP, second_NWP = _coarse_windows(firsts), _coarse_windows(seconds)
    flags_M = np.zeros(len(rows_M), bool)
    fine = windows(LUMA_PIXELS, SCALES_PERCENT, STEP_PERCENT)
    for whole_NWP, piece_NWP, wholes, pieces, whole_M, piece_M in (
        (first_NWP, second_NWP, firsts, seconds, row_of_M, column_of_M),
        (second_NWP, first_NWP, seconds, firsts, column_of_M, row_of_M),
    ):
        coarse_M = _coarse_correlations(whole_NWP, piece_NWP, whole_M, piece_M, flags_M)
        likely = np.flatnonzero(coarse_M >= MIN_COARSE_CORRELATION)
        _flag_same(wholes, pieces, whole_M[likely], piece_M[likely], fine, likely, flags_M)
    return flags_M


def _used(positions_M: Positions, count: int) -> tuple[Positions, Positions]:
    """Which of so many positions there are, and the place of each among these."""
    is_used_N = np.zeros(count, bool)
    is_used_N[positions_M] = True
    # There may be millions of pairs, which np.unique would sort.
    return np.flatnonzero(is_used_N), (np.cumsum(is_used_N) - 1)[positions_M]


def _coarse_windows(lumas_NLL: Lumas) -> Numbers:
    """Every window of pictures of 8 x 8 pixels, (N, windows, 64); the first one is the whole."""
    side, cell = COARSE_PIXELS, LUMA_PIXELS // COARSE_PIXELS
    cells = lumas_NLL.reshape(-1, side, cell, side, cell).sum(axis=(2, 4)) // cell**2
    windows_NK = cells.reshape(len(cells), -1).astype(np.float32) @ _coarse_matrix()
    # Whole numbers up to 255, so that float32 has their products exactly.
    windows_NWP: Numbers = np.floor(windows_NK / TAP_SUM**2).reshape(len(cells), -1, side * side)
    return windows_NWP


@functools.lru_cache
def _coarse_matrix() -> Numbers:
    """What makes all windows of a picture of 8 x 8 pixels, (64, windows x 64)."""
    side = COARSE_PIXELS
    firsts, weights = windows(side, COARSE_SCALES_PERCENT, COARSE_STEP_PERCENT)
    dense_WPP = np.zeros((len(firsts), side, side), np.float32)
    places = firsts[..., None] + np.arange(TAPS)
    np.put_along_axis(dense_WPP, places, weights, axis=2)
    # Rows by one side's windows and columns by the other's.
    products = np.einsum("aij,bkl->jlabik", dense_WPP, dense_WPP)
    return np.ascontiguousarray(products.reshape(side * side, -1))


@compiled
def _coarse_correlations(
    whole_NWP: Numbers, piece_NWP: Numbers, rows: Positions, columns: Positions, skip: Flags
) -> Numbers:
    """The largest correlation of the whole of one picture with a window of another, (M,)."""
    best_M = np.zeros(len(rows), np.float32)
    count = np.float64(COARSE_PIXELS**2)
    for pair in range(len(rows)):
        if skip[pair]:
            continue
        windows, piece = whole_NWP[rows[pair]], piece_NWP[columns[pair], 0]
        total, squares = np.float32(0), np.float32(0)
        for value in piece:
            total += value
            squares += value * value
        spread_piece = count * squares - np.float64(total) * total
        for number in range(len(windows)):
            window = windows[number]
            own, own_squares, products = np.float32(0), np.float32(0), np.float32(0)
            for pixel in range(len(window)):
                value = window[pixel]
                own += value
                own_squares += value * value
                products += value * piece[pixel]
            spread = count * own_squares - np.float64(own) * own
            shared = count * products - np.float64(own) * total
            if spread > 0 and spread_piece > 0:
                best_M[pair] = max(best_M[pair], shared / np.sqrt(spread * spread_piece))
    return best_M


@functools.lru_cache
def windows(pixels: int, scales_percent: tuple[int, ...], step_percent: int) -> Windows:
    """How a side of a window is made of a side of a picture, for each length and place of it.

    Of each pixel of the window, the first pixel of the picture that it lies on, (W, pixels), and
    the weights of this one and the next two, (W, pixels, 3), which sum to 32.
    """
    firsts, weights = [], []
    for scale in scales_percent:
        for offset in range(0, 101 - scale, step_percent):
            dense = _interpolated(pixels, offset / 100, scale / 100)
            first = np.minimum((dense > 0).argmax(axis=1), pixels - TAPS)
            taps = np.take_along_axis(dense, first[:, None] + np.arange(TAPS), axis=1)
            whole = np.rint(taps * TAP_SUM)
            # What rounding has taken or given is the largest one's.
            whole[np.arange(pixels), taps.argmax(axis=1)] += TAP_SUM - whole.sum(axis=1)
            firsts.append(first)
            weights.append(whole)
    return np.array(firsts, np.int64), np.array(weights, np.float32)


def _interpolated(
    pixels: int, offset: float, scale: float, samples: int = 16
) -> npt.NDArray[np.float64]:
    """Means of linear interpolations over the pixels of a window, as a matrix."""
    places = (np.arange(pixels * samples) + 0.5) / (pixels * samples)
    positions = ((offset + scale * places) * pixels - 0.5).clip(0, pixels - 1)
    linear = np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(pixels)))
    means: npt.NDArray[np.float64] = linear.reshape(pixels, samples, pixels).mean(axis=1)
    return means


@compiled
def _flag_same(
    wholes: Lumas,
    pieces: Lumas,
    rows: Positions,
    columns: Positions,
    windows: Windows,
    places: Positions,
    flags: Flags,
) -> None:
    for pair in range(len(rows)):
        whole = wholes[rows[pair]].astype(np.float32)
        piece = pieces[columns[pair]].astype(np.float32)
        if _best_correlation(whole, piece, windows) >= MIN_CORRELATION:
            flags[places[pair]] = True


@compiled
def _best_correlation(whole: Numbers, piece: Numbers, windows: Windows) -> float:
    """The largest correlation of a picture with any window of another one, or one that suffices.

    It is 0 where one of both has too little contrast to show anything.
    """
    side = len(whole)
    across, window = np.empty_like(whole), np.empty_like(whole)
    sums = np.empty((5, side), np.float32)
    best: float = 0.0
    turned = piece.T.copy()
    _, _, variance_piece = _compare(turned, turned, sums)
    if variance_piece < MIN_CONTRAST**2:
        return 0.0
    num_windows = len(windows[0])
    for down in range(num_windows):
        # Rows are turned into columns, so that the columns of the window are taken as rows, too.
        _take_rows(whole, windows, down, 1.0, across)
        turned_across = across.T.copy()
        for right in range(num_windows):
            _take_rows(turned_across, windows, right, ROUNDED, window)
            covariance, variance, _ = _compare(window, turned, sums)
            if variance >= (WINDOW_SCALE * MIN_CONTRAST) ** 2:
                best = max(best, covariance / np.sqrt(variance * variance_piece))
                if best >= MIN_CORRELATION:
                    return best
    return best


@compiled
def _take_rows(
    picture: Numbers, windows: Windows, number: int, factor: float, rows: Numbers
) -> None:
    """The rows of a window, each a weighted sum of three rows of the picture, times the factor."""
    firsts, weights = windows
    scale = np.float32(factor)
    for row in range(len(picture)):
        first = firsts[number, row]
        one, two, three = weights[number, row]
        # Rows by themselves are what the compiler does several pixels of at a time.
        top, middle, bottom = picture[first], picture[first + 1], picture[first + 2]
        result = rows[row]
        for column in range(len(picture)):
            total = one * top[column] + two * middle[column] + three * bottom[column]
            result[column] = np.floor(total * scale)


@compiled
def _compare(first: Numbers, second: Numbers, sums: Numbers) -> tuple[float, float, float]:
    """The covariance of two pictures and the variances of both; `sums` is room for columns."""
    side = len(first)
    sums[:] = 0
    ones, others, products, squares, other_squares = sums[0], sums[1], sums[2], sums[3], sums[4]
    for row in range(side):
        values, other_values = first[row], second[row]
        for column in range(side):
            one, other = values[column], other_values[column]
            ones[column] += one
            others[column] += other
            products[column] += one * other
            squares[column] += one * one
            other_squares[column] += other * other
    totals = np.zeros(5)
    for number in range(5):
        for column in range(side):
            totals[number] += sums[number, column]
    count = side * side
    mean_first, mean_second = totals[0] / count, totals[1] / count
    return (
        totals[2] / count - mean_first * mean_second,
        totals[3] / count - mean_first * mean_first,
        totals[4] / count - mean_second * mean_second,
    )
