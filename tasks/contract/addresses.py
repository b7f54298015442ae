"""Addresses: what a person types for an output, and the output that it means.

In: `<root>/<stage>/<fingerprint>`, or one of the manifests in that folder. Out: the reference.

    scores = output_at("s3://bucket/out/score/3f2a90cc11d0ab42", "score")
"""

import functools
import json

from infra.errors import ProtegeError
from infra.store import Store, open_store, split_uri
from tasks.contract.manifest import Output, find_output, manifest_names


def output_at(address: str, *stages: str) -> Output:
    """The finished output at an address; of several manifests, the one that was made last.

    Raises ProtegeError when it is none, is not complete, or belongs to none of these stages;
    without stages, any will do.
    """
    wanted = " or ".join(stages) or "any stage"
    example = f"<root>/{stages[0] if stages else '<stage>'}/<fingerprint>"
    if not address.strip():
        raise ProtegeError(f"an address is missing: {example}")
    store, name = _folder(address.strip().rstrip("/"))
    found = map(functools.partial(find_output, store), _manifests(store, name))
    outputs = [output for output in found if output is not None]
    if not outputs:
        raise ProtegeError(
            f"{address}: there is no complete output here; wanted is an output of {wanted}, as "
            f"{example}, which the log of a run, the report and `protege show` name"
        )
    if stages and outputs[-1].stage not in stages:
        raise ProtegeError(f"{address} is an output of {outputs[-1].stage}; wanted is {wanted}")
    return outputs[-1]


def _folder(address: str) -> tuple[Store, str]:
    if address.endswith(".json"):
        return split_uri(address)
    return open_store(address), ""


def _manifests(store: Store, name: str) -> list[str]:
    """The names of the manifests, oldest first."""
    if name:
        return [name]
    return sorted(
        manifest_names(store.sizes()), key=lambda path: str(json.loads(store.read(path))["made_at"])
    )
