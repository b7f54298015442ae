"""Driver: a whole campaign in one process, which kills itself with SIGKILL where it is told.

    python -m tests.faults.driver ROOT PICTURES [FOLDER WRITE]

With a folder of the root (a stage, or its leases) and a number, the process dies in the middle of
the WRITE-th write below it: the bytes are on disk under a temporary name, and nothing is published.
"""

import os
import signal
import sys
from pathlib import Path

from infra.executors import Inline
from infra.settings import Processes
from infra.store import LocalStore, open_store
from tasks.contract import Output
from tasks.duplicates.signature import signature
from tasks.evaluate import Choice, evaluate
from tasks.gather import gather
from tasks.report import Story, report
from tasks.score import score
from tasks.shard import class_names, shard
from tasks.topk import topk
from tasks.train import train
from tests.builders.campaign import tiny

ONE = Processes(count=1, threads=1)


def run_campaign(root_uri: str, pictures: Path) -> dict[str, Output]:
    """Every stage of the recipe, without Prefect and without a cluster."""
    root, options, here = open_store(root_uri), tiny(pictures), Inline()
    labelled = shard(root, options.labelled, here)
    pile = shard(root, options.pile, here)
    test = shard(root, options.test, here)
    classes = class_names(labelled, test)
    teacher = train(root, options.teacher, labelled, classes, processes=ONE)
    scores = score(root, options.score, pile, teacher, here)
    exclude = {"labelled": signature(root, labelled, here), "test": signature(root, test, here)}
    chosen = topk(root, options.topk, scores, here, exclude=exclude)
    lessons = gather(root, options.gather, pile, chosen, here)
    student = train(root, options.student, lessons, classes, processes=ONE)
    models = {"teacher": teacher, "baseline": teacher, "pretrained": student, "student": student}
    choice = Choice(pile, chosen, teacher)
    measured = evaluate(root, options.evaluate, test, models, here, choice=choice)
    outputs = {
        "labelled": labelled,
        "pile": pile,
        "test": test,
        "teacher": teacher,
        "score": scores,
        "topk": chosen,
        "gather": lessons,
        "pretrained": student,
        "student": student,
        "baseline": teacher,
        "evaluate": measured,
    }
    page = report(root, options.report, Story("billion-scale", "test", "again", outputs))
    return {**outputs, "report": page}


def die_in(folder: str, write: int) -> None:
    """Make the process kill itself in the middle of that write below that folder."""
    write_temporary = LocalStore._write_temporary
    seen = 0

    def counted(self: LocalStore, path: str, data: bytes) -> Path:
        nonlocal seen
        temporary = write_temporary(self, path, data)
        if f"{self.uri}/{path}".startswith(f"{folder}/"):
            seen += 1
            if seen == write:
                os.kill(os.getpid(), signal.SIGKILL)
        return temporary

    LocalStore._write_temporary = counted


if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_in(f"{open_store(sys.argv[1]).uri}/{sys.argv[3]}", int(sys.argv[4]))
    run_campaign(sys.argv[1], Path(sys.argv[2]))
