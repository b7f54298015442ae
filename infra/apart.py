"""Apart: one question to a process of its own, so that the caller need not load torch.

In: a module that `answer`s when it is run, and a request as JSON values. Out: its answer.

    answer_apart("tasks.cost", {"classes": 10})
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from infra.errors import ProtegeError
from infra.safe_path import SAFE_PATH


def answer_apart(module: str, request: object) -> Any:
    """What the module answers. Raises ProtegeError with the last line of a process that failed."""
    done = subprocess.run(
        [sys.executable, "-m", module],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **SAFE_PATH, "OMP_WAIT_POLICY": "PASSIVE"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
        raise ProtegeError(f"a network of these options cannot be built: {last}")
    return json.loads(done.stdout)


def answer(function: Callable[[Any], object]) -> None:
    """Answer the one request on standard input: what such a module does when it is run."""
    print(json.dumps(function(json.load(sys.stdin))))  # noqa: T201  the answer
