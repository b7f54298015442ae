"""Limits: the numbers that bound memory and decide when a step is worth its time.

`Limits` are passed down from `topk`. They change no chosen row, so they are not in the fingerprint.
But `pairs_per_round` and `rows_per_range` decide where parts of `chosen` end, and
`histogram_sample_images` which images the histogram counts: raise topk's VERSION with the default
of one of these three.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Tuning numbers; the defaults are measured for millions of images, tests take small ones."""

    pairs_per_round: int = 32_000_000
    """Candidates chosen in one round: 2 GB on the worker of the last step, 4 GB with hashes."""
    rows_per_range: int = 1_000_000
    """Rows that a thread sorts at a time, and rows of a part of `chosen`."""
    batches_per_worker: int = 8
    """Tasks of a scan for each worker, so that they end at about the same time."""
    prefetch_rows: int = 200_000
    """Rows that are read ahead while a part is scanned."""
    min_prefetch_parts: int = 2
    """Parts that are read at a time, however large they are."""
    max_prefetch_parts: int = 16
    """Parts that are read at a time, however small; a remote store answers in parallel."""

    histogram_sample_images: int = 1_000_000
    """Of more images, the histogram counts one in so many."""
    floor_sample_images: int = 256
    """Of the K best of a class, so many are expected in the sample that gives its floor."""
    floor_deviations: float = 5
    """Standard deviations of that number by which the floor lies deeper than expected."""
    min_sample_stride_parts: int = 4
    """To read more than one part in so many as a sample takes longer than it saves."""

    prune_pairs: int = 4_000_000
    """Candidates from which on they are pruned to the quotas: 56 MB."""
    min_prune_pairs: int = 500_000
    """With fewer candidates, to prune them takes longer than it saves, however low the quotas."""
    max_pieces: int = 128
    """Pieces of candidates that a result may have; each costs some time in every later step."""
    pieces_per_join: int = 16
    """Pieces that are joined at a time; to join many takes much memory."""

    reserve_share: float = 0.25
    """Share of the quota that is scanned in addition, for candidates that are near-duplicates,"""
    reserve_images: int = 16
    """and images that are scanned in addition to that."""
    min_quota_growth: float = 1.5
    """Factor by which the quota of a class that is not full grows from scan to scan, at least,"""
    max_quota_growth: float = 8.0
    """and at most."""
    hash_pairs_per_block: int = 4_000_000
    """Pairs of hashes that are compared at a time: 32 MB."""
    thumbnail_pairs_per_block: int = 50_000
    """Pairs of thumbnails that are compared at a time: 77 MB as floats."""

    views_per_group: int = 4_000_000
    """Candidates that are compared for crops at a time, at least a class: 1.6 GB, and the same
    again while their views are merged."""


DEFAULT_LIMITS = Limits()
