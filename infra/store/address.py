"""Addresses: where an object or a folder is, as the one text that everything agrees on.

In: what a person types (`out/`, `~/x`, `file:///my%20data`, `S3://bucket/x`). Out: an `Address`,
whose `uri` is an absolute path or `s3://bucket/key`, letter by letter. Nothing in a `uri` is
encoded, so that parsing it again gives the same address, whatever its key holds.

    address = Address.parse("file:///my%20data/1.png")
    address.uri        # "/my data/1.png"
    address.split()    # ("/my data", "1.png")
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from infra.errors import ProtegeError

S3 = "s3://"
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Address:
    """The address of an object or a folder; `uri` has no trailing slash of a folder."""

    uri: str

    @classmethod
    def parse(cls, text: str, base: str = "") -> "Address":
        """What a person has typed; a relative path is meant from `base`. Raises ProtegeError."""
        found = SCHEME.match(text)
        scheme, rest = (found[1].lower(), text[found.end() :]) if found else ("", text)
        if scheme == "s3":
            return cls(S3 + rest)
        if scheme == "file":
            # `localhost` is the only host whose files are ours.
            return cls(_absolute(os.fsdecode(unquote_to_bytes(rest.removeprefix("localhost")))))
        if scheme:
            raise ProtegeError(
                f"{text}: only local paths, file:// and s3:// addresses can be opened"
            )
        if base and not text.startswith("/"):
            return cls(f"{base.rstrip('/')}/{text}")
        return cls(_absolute(text))

    @property
    def is_s3(self) -> bool:
        """Whether it is on S3; all others are on a local or mounted disk."""
        return self.uri.startswith(S3)

    def folder(self) -> "Address":
        """The same as the address of a folder: a slash at its end means nothing."""
        return Address(self.uri.rstrip("/") or "/")

    def resolved(self) -> "Address":
        """The same by its real path: links and '..' are followed on disk; a bucket has none."""
        return self if self.is_s3 else Address(os.path.realpath(self.uri))

    def split(self) -> tuple[str, str]:
        """The folder's uri and the object's name in it. Both together are the uri, exactly."""
        folder, _, name = self.uri.rpartition("/")
        return folder or "/", name


def _absolute(path: str) -> str:
    # Unlike that of pathlib, this leaves the name of an unknown user as it is.
    expanded = os.path.expanduser(path)  # noqa: PTH111
    # Two slashes in front have a meaning of their own in POSIX, and none on our systems.
    return f"/{str(Path(expanded).absolute()).lstrip('/')}"
