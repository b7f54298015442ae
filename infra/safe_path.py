"""Safe path: our packages have common names, and a user's folder may hold others of these names.

In: nothing. Out: `SAFE_PATH`, for the environment of every process that we start: Python then does
not put the working folder before the installed packages. `check_packages` refuses to start with a
package of somebody else.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from infra.errors import ProtegeError

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
PACKAGES = ("flows", "tasks", "models")


def use_safe_path() -> None:
    """Let every process that this one starts, directly or not, take the installed packages."""
    os.environ.update(SAFE_PATH)


def check_packages() -> None:
    """Raise ProtegeError when Python finds another package under a name of ours."""
    own = Path(__file__).parents[1]
    for name in PACKAGES:
        spec = find_spec(name)
        found = Path(spec.origin) if spec and spec.origin else None
        if found is None or found.parents[1] != own:
            folder = found.parent if found else "nowhere"
            raise ProtegeError(
                f"the package {name!r} of protege lies in {own / name}, but Python finds another "
                f"one first: {folder}. Run protege in another folder, take that one out of "
                "PYTHONPATH, or give protege an environment of its own"
            )
