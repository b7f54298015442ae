"""Driver: a whole campaign in one process, which kills itself with SIGKILL at a given write.

    python -m tests.faults.driver ROOT PICTURES [FOLDER WRITE]

With a folder of the root (a stage, or its leases) and a number, the process dies in the middle of
the WRITE-th write below it: the bytes are on disk under a temporary name, and nothing is published.
"""

import os
import signal
import sys
from pathlib import Path

from flows.billion_scale.roles import ROLES
from infra.executors import Inline
from infra.settings import Processes
from infra.store import open_store
from infra.store.local import LocalDraft
from tasks.contract import Output
from tasks.duplicates.leakage import leakage
from tasks.duplicates.signature import signature
from tasks.evaluate import Choice, evaluate, predict
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
    labelled = shard(root, options.labelled, executor=here)
    pile = shard(root, options.pile, executor=here)
    test = shard(root, options.test, executor=here)
    classes = class_names(labelled, test)
    known = {
        "labelled": signature(root, labelled, executor=here),
        "test": signature(root, test, executor=here),
    }
    copies = leakage(root, labelled, test, known)
    labels = gather(root, labelled, options=options.gather, classes=classes, executor=here)
    teacher = train(root, labels, options.teacher, classes=classes, processes=ONE)
    answers = predict(root, teacher, test, executor=here)
    scores = score(root, pile, teacher, options.score, executor=here)
    chosen = topk(root, scores, options.topk, executor=here, exclude=known)
    lessons = gather(root, pile, chosen, options.gather, executor=here)
    student = train(root, lessons, options.student, classes=classes, processes=ONE)
    models = {"teacher": teacher, "baseline": teacher, "pretrained": student, "student": student}
    choice = Choice(pile, chosen, teacher)
    measured = evaluate(
        root,
        test,
        models,
        options.evaluate,
        compare=("student", "baseline"),
        choice=choice,
        executor=here,
    )
    outputs = {
        "labelled": labelled,
        "pile": pile,
        "test": test,
        "copies": copies,
        "labelled_lessons": labels,
        "teacher_check": answers,
        "teacher": teacher,
        "score": scores,
        "topk": chosen,
        "gather": lessons,
        "pretrained": student,
        "student": student,
        "baseline": teacher,
        "evaluate": measured,
    }
    story = Story(
        "billion-scale",
        "test",
        "again",
        {**outputs, "supervised": teacher},
        ROLES,
        result="student",
        compared_with="baseline",
    )
    page = report(root, story, options.report)
    return {**outputs, "report": page}


def die_in(folder: str, write: int) -> None:
    """Make the process kill itself in the middle of that write below that folder."""
    sync = LocalDraft._sync
    seen = 0

    def counted(self: LocalDraft) -> None:
        nonlocal seen
        sync(self)
        if str(self._target).startswith(f"{folder}/"):
            seen += 1
            if seen == write:
                os.kill(os.getpid(), signal.SIGKILL)

    LocalDraft._sync = counted  # type: ignore[method-assign]  # for this process


if __name__ == "__main__":
    if len(sys.argv) > 3:
        die_in(f"{open_store(sys.argv[1]).uri}/{sys.argv[3]}", int(sys.argv[4]))
    run_campaign(sys.argv[1], Path(sys.argv[2]))
