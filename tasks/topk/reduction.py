"""Look: what is done over all parts of the scores, and with what is found in them.

In: the parts. Out: for each round, some classes and what was chosen of them. There is one round,
unless K times the classes is more than the worker that takes the last step should hold.

    floors -> chunk (Pile) -> combine, as a tree -> [guard] -> choose
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from infra.executors import Executor, Handle
from tasks.contract import MAX_BATCH, OnProgress, Output, Stopwatch
from tasks.topk import dedup as guard
from tasks.topk.candidates import NONE, Counts, Found, Job, Pile, combine, floors, joined
from tasks.topk.options import TopkOptions
from tasks.topk.order import Values
from tasks.topk.ranking import Choice, choose
from tasks.topk.reader import Name, Reader

Item = TypeVar("Item")

FEW = 1_000_000  # images; of more, the histogram takes one in so many
SAMPLED = 256  # of the K of a class, so many are expected in the sample that the floors come from
SIGMAS = 5
FEWEST = 4  # a sample of more than one part in so many is not worth its time
BATCHES_PER_WORKER = 8
# Candidates that are wanted at a time: 2 GB on the worker that takes the last step, and 4 GB where
# copies are to be found. It decides where parts of `chosen` end, as ranges.ROWS_AT_ONCE does, so
# raise topk's VERSION with them.
PAIRS_PER_ROUND = 32_000_000


@dataclass(frozen=True)
class Look:
    """What is looked at, and for what."""

    uri: str
    reader: Reader
    classes: tuple[str, ...]
    parts: tuple[tuple[str, int], ...]  # names and rows
    known: Mapping[str, Output]

    @property
    def inputs(self) -> dict[str, Output]:
        """What is chosen from, and what may not be chosen, by role."""
        return {"scores": self.reader.scores, **self.known}

    @property
    def options(self) -> TopkOptions:
        """How they are chosen."""
        return self.reader.options

    @property
    def rows(self) -> int:
        """Images with scores."""
        return self.reader.scores.kept

    @property
    def one_in(self) -> int:
        """The histogram is made of one image in so many."""
        return -(-self.rows // FEW) or 1

    def jobs(self) -> Iterator[Job]:
        """What is wanted, round by round."""
        count, options = len(self.classes), self.options
        if options.together:
            wanted_G = np.array([options.k * count])
            yield Job(options, range(count), count, wanted_G, self.one_in)
            return
        at_once = max(1, PAIRS_PER_ROUND // options.k)
        for first in range(0, count, at_once):
            classes = range(first, min(first + at_once, count))
            yield Job(options, classes, count, np.full(len(classes), options.k), self.one_in)


def rounds(
    look: Look, executor: Executor, on_progress: OnProgress, watch: Stopwatch
) -> Iterator[Choice]:
    """What is chosen, in the order of the classes; a round ends early where a class has nothing."""
    written, jobs = 0, list(look.jobs())
    for number, job in enumerate(jobs, 1):
        note = f"round {number} of {len(jobs)}" if len(jobs) > 1 else ""
        choice = _choose(look, job, written, executor, _noted(on_progress, note), watch)
        written += len(choice.parts)
        yield choice


def _noted(on_progress: OnProgress, note: str) -> OnProgress:
    def tell(done: int, total: int, step: str) -> None:
        on_progress(done, total, f"{step}, {note}" if note else step)

    return tell


def _choose(
    look: Look,
    job: Job,
    first_part: int,
    executor: Executor,
    on_progress: OnProgress,
    watch: Stopwatch,
) -> Choice:
    guarded, wider = job.options.drop_near_duplicates, job
    if guarded:
        wider = replace(job, wanted_G=guard.wanted_with_copies(job.wanted_G))
    on_progress(0, len(look.parts), "sample")
    floors_C = _floors(look, wider, executor)
    watch.lap("sample")
    while True:
        held = _look(look, wider, executor, floors_C, on_progress)
        if guarded:
            held = executor.apply(functools.partial(guard.contenders, wider), held)
            held = _without_copies(look, job, executor, held, on_progress)
        last = functools.partial(choose, job, look.uri, first_part)
        choice = executor.result(executor.apply(last, held))
        watch.lap("compute")
        if not choice.short_C.any():
            return choice
        # A floor was too high after all, or so many were copies: look deeper for these classes.
        floors_C = choice.floors_C
        if guarded:
            wider = replace(wider, wanted_G=_deeper(job, wider, choice))


def _deeper(job: Job, wider: Job, choice: Choice) -> Counts:
    held_G, short_G = choice.held_C, choice.short_C
    if job.options.together:
        held_G, short_G = held_G.sum(keepdims=True), short_G[:1]
    return guard.deeper(job, wider.wanted_G, held_G, short_G)


def _floors(look: Look, job: Job, executor: Executor) -> Values:
    """What the K-th best of each class surely exceeds, as far as a sample of the parts can tell.

    In the sample, as many are expected among the K best as the parts have a share of the images;
    the floor is lower by some standard deviations of that.
    """
    every = look.options.k // SAMPLED
    numbers = range(every // 2, len(look.parts), max(1, every))
    floors_C = np.full(job.num_classes, NONE)
    if every < FEWEST or len(numbers) < 2 or not look.rows:
        return floors_C
    expected_G = job.wanted_G * (sum(look.parts[at][1] for at in numbers) / look.rows)
    wanted_G = np.ceil(expected_G + SIGMAS * np.sqrt(expected_G) + SIGMAS).astype(np.int64)
    sample = replace(job, wanted_G=wanted_G)
    held = executor.reduce(
        functools.partial(_chunk, look.reader, sample, floors_C),
        functools.partial(combine, sample),
        _grouped(look, numbers, executor),
    )
    return executor.result(executor.apply(functools.partial(_floors_of, sample), held))


def _floors_of(job: Job, found: Found) -> Values:
    return floors(job, joined(found.pieces)) if found.pieces else np.full(job.num_classes, NONE)


def _look(
    look: Look, job: Job, executor: Executor, floors_C: Values, on_progress: OnProgress
) -> Handle[Found]:
    """What is found in all parts."""
    total = len(look.parts)
    groups = _grouped(look, range(total), executor)
    done = itertools.count(1)

    def tell() -> None:
        on_progress(total * next(done) // (len(groups) + 1), total, "compute")

    return executor.reduce(
        functools.partial(_chunk, look.reader, job, floors_C),
        functools.partial(combine, job),
        groups,
        tell,
    )


def _grouped(look: Look, numbers: range, executor: Executor) -> list[list[Name]]:
    names = [(number, look.parts[number][0]) for number in numbers]
    return _batches(names, executor) or [names]


def _batches(items: Sequence[Item], executor: Executor) -> list[list[Item]]:
    size = min(MAX_BATCH, -(-len(items) // (BATCHES_PER_WORKER * executor.workers)) or 1)
    return [list(items[at : at + size]) for at in range(0, len(items), size)]


def _chunk(reader: Reader, job: Job, floors_C: Values, names: Sequence[Name]) -> Found:
    """The candidates of a few parts."""
    pile = Pile(job, floors_C)
    for part in reader.parts(names):
        pile.add(part)
    return pile.found()


def _without_copies(
    look: Look, job: Job, executor: Executor, held: Handle[Found], on_progress: OnProgress
) -> Handle[Found]:
    """The same without copies. What was found stays where it is; only ids travel."""
    asked = functools.partial(guard.suspects, look.known)
    suspects = executor.result(executor.apply(asked, held))
    on_progress(len(look.parts), len(look.parts), f"{len(suspects.ids_N):,} may be copies")
    wanted = guard.parts_with(suspects, [name for name, _ in look.parts])
    signatures = executor.reduce(
        functools.partial(guard.read_signatures, look.reader),
        guard.merged,
        _batches(wanted, executor) or [[]],
    )
    return executor.apply(functools.partial(guard.distinct, job, look.known), held, signatures)
