"""Stores: a local folder or an S3 prefix, by the same interface.

base.py   the interface
local.py  a local or mounted disk
s3.py     S3, over s3fs

In: a URI (`out/`, `file:///data`, `s3://bucket/prefix`). Out: a `Store`, whose paths are relative
to that URI. `create` and `replace` publish whole objects in one step, so a reader never sees half a
file, whatever was killed.

    store = open_store("s3://bucket/protege")
    store.create("score/3f2a/part-00000.parquet", data)   # False when the name is taken

S3 clients do not survive a fork: every process that uses a store must be spawned.
"""

from urllib.parse import unquote, urlsplit

from infra.errors import ProtegeError
from infra.store.base import ObjectInfo, Store
from infra.store.local import LocalStore
from infra.store.s3 import S3Store

__all__ = [
    "LocalStore",
    "ObjectInfo",
    "S3Store",
    "Store",
    "open_store",
    "split_uri",
]


def open_store(uri: str) -> Store:
    """The store at a local path, a `file://` or an `s3://` URI. Raises ProtegeError for others."""
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        return S3Store(uri.rstrip("/"))
    if scheme == "file":
        return LocalStore(unquote(urlsplit(uri).path))
    if "://" in uri:
        raise ProtegeError(f"{uri}: only local paths, file:// and s3:// addresses can be opened")
    return LocalStore(uri)


def split_uri(uri: str) -> tuple[Store, str]:
    """The store of the folder that holds `uri`, and the object's name in it."""
    folder, _, name = uri.rstrip("/").rpartition("/")
    if folder == "file://" or (not folder and uri.startswith("/")):
        folder += "/"
    return open_store(folder or "."), name
