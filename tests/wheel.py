"""Wheel: builds it, installs it by name into an empty environment, and runs a tiny campaign.

In: this checkout and its virtual environment. Out: nothing, or an error. The run's folder holds
packages of the user's own with the names of ours, and sees nothing of the checkout.

    make test-wheel
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import yaml

from tests.builders.campaign import tiny
from tests.builders.pictures import write_sources

CHECKOUT = Path(__file__).parents[1]
PACKAGES = ("flows", "tasks", "models", "infra", "protege")


def main() -> None:
    """Build, install, run."""
    with tempfile.TemporaryDirectory(prefix="protege-wheel-") as name:
        folder = Path(name)
        protege = install(build(folder / "dist"), folder / "environment")
        check_contents(protege.with_name("python"), folder)
        run(protege, folder / "own")


def build(dist: Path) -> Path:
    """The wheel of this checkout, in this folder."""
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(dist))
    pip("wheel", *options, str(CHECKOUT))
    return dist


def install(dist: Path, environment: Path) -> Path:
    """The command of a new environment with the wheel; it borrows the other packages of ours."""
    call(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = environment / "bin" / "python"
    options = ("--quiet", "--no-deps", "--no-index", "--find-links", str(dist))
    pip("--python", str(python), "install", *options, "protege")
    (packages,) = environment.glob("lib/python*/site-packages")
    # A folder that is named here comes last, and its own .pth files, the checkout's, do not count.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin" / "protege"


def check_contents(python: Path, folder: Path) -> None:
    """The list of ImageNet's classes is installed, and what torch.hub reads is not."""
    code = (
        "from importlib.util import find_spec; from models.published import find_published; "
        "assert len(find_published('resnet18_ssl').classes) == 1000; "
        "assert find_spec('hubconf') is None"
    )
    call(str(python), "-c", code, cwd=folder, env={"PATH": os.environ["PATH"]})


def run(protege: Path, folder: Path) -> None:
    """A campaign to its end, in a folder with packages that would break every import of ours."""
    for name in PACKAGES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise AssertionError(__file__)\n")
    write_sources(folder / "pictures", seed=0, labelled=4, pile=20, test=5)
    options = tiny(Path("pictures")).model_dump(mode="json")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(options))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PREFECT_HOME": str(folder / "prefect"),
        "PROTEGE_DASK__WORKERS": "1",
    }
    command = (str(protege), "run", "billion-scale", "--config", "tiny.yaml")
    call(*command, cwd=folder, env=environment)
    (page,) = (folder / "protege-output" / "report").glob("*/index.html")
    assert page.stat().st_size > 10_000, page


def pip(*arguments: str) -> None:
    """Run the pip of this environment."""
    call(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)


def call(*command: str, cwd: Path = CHECKOUT, env: dict[str, str] | None = None) -> None:
    """Run a command. Raises when it fails."""
    subprocess.run(command, cwd=cwd, env=env, check=True)


if __name__ == "__main__":
    main()
