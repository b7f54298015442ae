"""Claims: the numbered files in which a lease is stored.

In: a root and the name of a lease. Out: `Claims`, its files `leases/<name>/00000001.json`, with a
`Claim` in each. The highest number is the present state of the lease.

    claims = Claims(root, "score/3f2a")
    claims.create(claims.highest() + 1, claim)    # False when another run was first
"""

import json
from dataclasses import asdict, dataclass

from infra.errors import ProtegeError
from infra.lease.process import ProcessId
from infra.store import Store

FOLDER = "leases"


@dataclass(frozen=True)
class Claim:
    """The content of a file: who has the lease, and for how long. The token makes it unique."""

    token: str
    who: str
    process: ProcessId
    seconds: float
    beat: int = 0
    released: bool = False

    @property
    def holder(self) -> str:
        """The holder, for messages."""
        if self.who:
            return f"{self.who} on {self.process.host} (process {self.process.pid})"
        return f"process {self.process.pid} on {self.process.host}"


@dataclass(frozen=True)
class Claims:
    """The files of one lease, by number."""

    root: Store
    name: str

    def highest(self) -> int:
        """The highest number; 0 when there is none."""
        return max(self._numbers(), default=0)

    def read(self, number: int) -> Claim | None:
        """A claim; None when it is no longer there. Raises ProtegeError when it is damaged."""
        path = self._path(number)
        try:
            body = json.loads(self.root.read(path))
            return Claim(**{**body, "process": ProcessId(**body["process"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise ProtegeError(
                f"{self.root.uri}/{path} is damaged. Delete this file and run again"
            ) from error

    def create(self, number: int, claim: Claim) -> bool:
        """Take the number; False when another run has it."""
        if self.root.create(self._path(number), _encode(claim)):
            return True
        # A client that repeats a request, since the answer was lost, is refused for its own file.
        present = self.read(number)
        return present is not None and present.token == claim.token

    def replace(self, number: int, claim: Claim) -> None:
        """Replace the claim of that number."""
        self.root.replace(self._path(number), _encode(claim))

    def delete(self, number: int) -> None:
        """Delete a claim that is not the highest."""
        self.root.delete(self._path(number))

    def delete_below(self, number: int) -> None:
        """Delete all claims with lower numbers."""
        for lower in self._numbers():
            if lower < number:
                self.delete(lower)

    def _numbers(self) -> list[int]:
        folder = f"{FOLDER}/{self.name}/"
        names = (
            path.removeprefix(folder).removesuffix(".json") for path in self.root.sizes(folder)
        )
        # The folder also has the leases whose names begin with this name.
        return [int(name) for name in names if name.isdigit()]

    def _path(self, number: int) -> str:
        return f"{FOLDER}/{self.name}/{number:08d}.json"


def _encode(claim: Claim) -> bytes:
    return json.dumps(asdict(claim), ensure_ascii=False).encode()
