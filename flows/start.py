"""start: the command `protege`, before anything of ours is imported that a user's package hides.

In: the arguments of the command. Out: its exit status.
"""

import sys

from infra.errors import ProtegeError
from infra.safe_path import check_packages, use_safe_path


def main() -> int:
    """Run the command line with our own packages, here and in every process that it starts."""
    try:
        check_packages()
    except ProtegeError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  rich may be hidden as well
        return 1
    use_safe_path()
    from flows.cli import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
