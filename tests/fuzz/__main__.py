"""The command: see `tests/fuzz/__init__.py`."""

import argparse
import itertools
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.cases import Case, make_case
from tests.fuzz.pool import run_cases
from tests.fuzz.trial import FAULTS, Verdict, try_case

MAX_WRITTEN = 20  # inputs of each fault and kind


def main() -> int:
    """Run for so many minutes, or one case; 1 when there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--case", type=int, help="this one alone, in this process")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=Path("fuzz-output"))
    given = parser.parse_args()
    if given.case is None:
        return search(given)
    case = make_case(given.seed, given.case)
    verdict = try_case(case)
    write(given.out, given.seed, case, verdict)
    print(f"{verdict.name}: {verdict.detail}")
    return verdict.name in FAULTS


def search(given: argparse.Namespace) -> int:
    """Try cases until the time is up, and print the figures."""
    counts: Counter[str] = Counter()
    faults: Counter[tuple[str, str]] = Counter()
    started = time.monotonic()
    until = started + 60 * given.minutes
    for number, verdict in run_cases(given.seed, itertools.count(), given.processes, until):
        counts[verdict.name] += 1
        if verdict.name in FAULTS:
            case = make_case(given.seed, number)
            faults[verdict.name, case.kind] += 1
            if faults[verdict.name, case.kind] <= MAX_WRITTEN:
                write(given.out, given.seed, case, verdict)
    figures = {
        "cases": counts.total(),
        **{name: counts[name] for name in (*FAULTS, "kept", "refused")},
        "seed": given.seed,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "folder": str(given.out),
    }
    print(json.dumps(figures))
    return bool(faults)


def write(folder: Path, seed: int, case: Case, verdict: Verdict) -> None:
    """The files of the case, and what became of it."""
    place = folder / f"{verdict.name}-{case.kind}-{seed}-{case.number}"
    place.mkdir(parents=True, exist_ok=True)
    for name, data in case.files.items():
        (place / name).write_bytes(data)
    (place / "verdict.txt").write_text(f"{verdict.name}\n{verdict.detail}\n")


if __name__ == "__main__":
    sys.exit(main())
