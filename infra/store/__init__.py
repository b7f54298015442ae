"""Stores: a local folder or an S3 prefix, by the same interface.

address.py  where something is, as one text
base.py     the interface
local.py    a local or mounted disk
s3.py       S3, over s3fs
ranges.py   which bytes of an object are read in one request
parquet.py  a Parquet file in a store
probe.py    whether a store refuses to create what is there

In: a URI (`out/`, `file:///data`, `s3://bucket/prefix`). Out: a `Store`, whose paths are relative
to that URI. `create` and `replace` publish whole objects in one step, so a reader never sees half a
file, whatever was killed.

    store = open_store("s3://bucket/protege")
    store.create("score/3f2a/part-00000.parquet", data)   # False when the name is taken

S3 clients do not survive a fork: every process that uses a store must be spawned.
"""

from functools import lru_cache

from infra.store.address import Address
from infra.store.base import Draft, ObjectInfo, Store
from infra.store.local import LocalStore
from infra.store.parquet import ParquetObject
from infra.store.probe import check_create_only
from infra.store.s3 import S3Store

__all__ = [
    "Address",
    "Draft",
    "LocalStore",
    "ObjectInfo",
    "ParquetObject",
    "S3Store",
    "Store",
    "check_create_only",
    "open_object",
    "open_store",
    "split_uri",
]


def open_store(uri: str) -> Store:
    """The store at a local path, a `file://` or an `s3://` URI. Raises ProtegeError for others."""
    return _store(Address.parse(uri).folder().uri)


def split_uri(uri: str) -> tuple[Store, str]:
    """The store of the folder that holds what a person has typed, and the object's name in it."""
    return open_object(Address.parse(uri).folder())


def open_object(address: Address) -> tuple[Store, str]:
    """The store of the folder that holds an object, and the object's name in it: exactly these."""
    folder, name = address.split()
    return _store(folder), name


@lru_cache(maxsize=256)
def _store(uri: str) -> Store:
    return S3Store(uri) if Address(uri).is_s3 else LocalStore(uri)
