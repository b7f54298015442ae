"""Passed over: files of another kind than images, which no source is blamed for.

In: how many of them there were, by the ending of their names. Out: the same for people.
"""

from collections.abc import Mapping

from tasks.shard.sources.names import is_compressed_name

ENDINGS_SHOWN = 12


def describe_passed_over(counts: Mapping[str, int]) -> str:
    """`7,858 .ogg, 952 .txt`, most frequent first; empty when there were none."""
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {_kind(ending)}" for ending, count in order[:ENDINGS_SHOWN]]
    if len(order) > ENDINGS_SHOWN:
        others = sum(count for _, count in order[ENDINGS_SHOWN:])
        shown.append(f"{others:,} of {len(order) - ENDINGS_SHOWN:,} other endings")
    return ", ".join(shown)


def _kind(ending: str) -> str:
    # Images may lie in them, so this says how to get at those.
    return (
        f"{ending} (compressed: unpack it to .tar)" if is_compressed_name(f"x{ending}") else ending
    )
