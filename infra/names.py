"""Names: what people call a champion or a campaign, which becomes a part of a path.

In: a name and what it names. Out: the same name, or an error with the rule. A name is one part of
a path: it cannot lead to another folder, and no shell and no store reads anything else in it.

    check_name("champion", "main")
"""

import re

from infra.errors import ProtegeError

PATTERN = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(kind: str, name: str) -> str:
    """The name. Raises ProtegeError when it is none; `kind` is what it names."""
    if PATTERN.fullmatch(name) is None:
        raise ProtegeError(
            f"{name!r} is no name of a {kind}: use up to 100 letters (A to z), digits, '.', '_' "
            "and '-', and begin with a letter or a digit"
        )
    return name
