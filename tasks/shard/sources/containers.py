"""Containers: the images inside a tar or Parquet file."""

import struct
import tarfile
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa

from infra.errors import ProtegeError
from infra.store import Address, open_object
from tasks.contract.parts import is_torn
from tasks.shard.sources.parquet import read_parquet
from tasks.shard.sources.reading import BadContainer, Member, Reading
from tasks.shard.sources.tar import read_tar

TORN = (pa.ArrowException, tarfile.TarError, EOFError, KeyError, ValueError, struct.error)


def read_container(uri: str, reading: Reading, passed_over: Counter[str]) -> Iterator[Member]:
    """The images of a tar or Parquet file, in its order; other files of it are counted.

    Raises BadContainer when it is gone or its bytes are wrong, and ProtegeError when a label is no
    label, or the store cannot be read now.
    """
    store, name = open_object(Address(uri))
    try:
        if name.lower().endswith(".tar"):
            yield from read_tar(store, name, reading, passed_over)
        else:
            yield from read_parquet(store, name, reading)
    except ProtegeError:
        raise
    except FileNotFoundError as error:
        raise BadContainer(f"{uri} is gone") from error
    except OSError as error:
        if is_torn(error):
            raise _bad(uri, error) from error
        raise ProtegeError(
            f"{uri} cannot be read now: {error}. Run again when it can; what is done is kept"
        ) from error
    except TORN as error:
        raise _bad(uri, error) from error


def _bad(uri: str, error: Exception) -> BadContainer:
    return BadContainer(f"{uri} cannot be read ({error})")
