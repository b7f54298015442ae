"""torch.hub: its entry points, models of ours, published weights, and other repositories beside."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import safetensors.torch
import torch

import models.registry
from infra.store import Store
from models.published import PUBLISHED
from tasks.images.transform import PIXEL_SCALES
from tasks.inference.weights import load_network
from tests.builders.file_server import serving
from tests.builders.models import CLASSES, model
from tests.builders.waiting import EVENT_SECONDS

ROOT = Path(__file__).parents[1]
IMAGES_BCHW = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
DOWNLOADED = [weights.name for weights in PUBLISHED.values() if weights.url]


def load(name: str, *arguments: object, **options: object) -> Any:
    return torch.hub.load(str(ROOT), name, *arguments, source="local", **options)


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The hubconf of this repository, as torch.hub imports it."""
    monkeypatch.setattr("torch.hub._get_cache_or_reload", lambda *_, **__: str(ROOT))
    module: ModuleType = torch.hub._import_module("hubconf.py", str(ROOT / "hubconf.py"))
    return module


@pytest.fixture
def folder(root: Store) -> Path:
    """The folder of a model of ours, with random weights."""
    return Path(model(root).uri)


@pytest.fixture
def resnet18(tmp_path: Path) -> Iterator[tuple[Path, torch.Tensor]]:
    """A file as those that are published, in the format of 2019, and the logits of its network."""
    torch.manual_seed(3)
    network = models.registry.build("resnet18", 1000).eval()
    path = tmp_path / "published.pth"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    with torch.inference_mode():
        yield path, network(IMAGES_BCHW)


def error_of(name: str, *arguments: object, **options: object) -> str:
    # The classes of its errors are loaded anew, as all of its modules.
    with pytest.raises(Exception, match=r"\w") as error:
        load(name, *arguments, **options)
    assert type(error.value).__name__ in ("ProtegeError", "TypeError")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.usefixtures("ours")
def test_entry_points_are_networks_published_weights_and_models_of_ours() -> None:
    names = torch.hub.list("anyone/protege")
    assert set(names) == {"protege", *DOWNLOADED, *models.registry.NETWORKS}
    assert len(DOWNLOADED) == 12
    for name in names:
        text = torch.hub.help("anyone/protege", name)
        assert "Returns:" in text, name
    assert "CC-BY-NC-4.0" in torch.hub.help("anyone/protege", "resnet50_ssl")
    assert "83.3 % instead of 84.8 %" in torch.hub.help("anyone/protege", "resnext101_32x16d_swsl")


def test_network_is_built_for_classes_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = load("small_resnet_8", num_classes=7)
    assert network(IMAGES_BCHW).shape == (2, 7)
    assert network.with_new_head(5)(IMAGES_BCHW).shape == (2, 5)
    assert load("resnet18").fc.out_features == 1000


def test_modules_of_ours_and_of_others_are_left_alone() -> None:
    installed = models.registry.build("small_resnet_8", 3)
    modules, path = dict(sys.modules), list(sys.path)
    first, second = load("small_resnet_8", 3), load("small_resnet_8", 3)
    assert type(first) is type(second)
    assert type(first) is not type(installed)
    assert sys.path == path
    added = {name for name in sys.modules if sys.modules[name] is not modules.get(name)}
    assert not [name for name in added if not name.startswith("protege_hub_")]


@pytest.mark.parametrize("end", ["", "weights.safetensors"])
def test_model_of_ours_answers_as_in_protege(root: Store, folder: Path, end: str) -> None:
    network = load("protege", str(folder / end))
    expected, description = load_network(model(root))
    assert not network.training
    with torch.inference_mode():
        assert torch.equal(network(IMAGES_BCHW), expected(IMAGES_BCHW))
    assert network.classes == CLASSES
    inputs = description.inputs
    scale = {"mean": inputs.mean, "std": inputs.std}
    assert network.inputs == {**inputs.model_dump(), **scale}


def test_scales_of_pixels_are_those_of_protege(ours: ModuleType) -> None:
    assert ours._PIXEL_SCALES == PIXEL_SCALES


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.bool])
def test_tensors_are_read_as_safetensors_reads_them(
    ours: ModuleType, tmp_path: Path, dtype: torch.dtype
) -> None:
    tensors = {
        "a.weight": torch.rand(3, 5).to(dtype),
        "counter": torch.tensor(7),
        "last": torch.tensor([1, 0, 255], dtype=torch.uint8),
        "int": torch.arange(3, dtype=torch.int32),
    }
    path = tmp_path / "tensors.safetensors"
    safetensors.torch.save_file(tensors, path, {"note": "ü"})
    metadata, found = ours._read_safetensors(path)
    assert metadata == {"note": "ü"}
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_torn_model_is_refused(folder: Path, size: int) -> None:
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    assert error_of("protege", str(folder)) == (
        f"{file} is no file in the safetensors format, or a damaged one"
    )


def test_what_is_no_model_of_ours_is_refused(tmp_path: Path, folder: Path) -> None:
    assert "No such file" in error_of("protege", str(tmp_path / "none"))
    assert "No such file" in error_of("protege", str(tmp_path))
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "theirs.safetensors")
    error = error_of("protege", str(tmp_path / "theirs.safetensors"))
    assert error.endswith("does not say what it is; protege did not write it")


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_published_weights_load_from_a_local_file(
    resnet18: tuple[Path, torch.Tensor], ending: str
) -> None:
    path, logits_BC = resnet18
    if ending == ".safetensors":
        tensors = torch.load(path)
        path = path.with_suffix(ending)
        safetensors.torch.save_file(tensors, path)
    network = load("resnet18_ssl", path=path)
    assert not network.training
    with torch.inference_mode():
        assert torch.equal(network(IMAGES_BCHW), logits_BC)
    assert network.classes == PUBLISHED["resnet18_ssl"].classes
    assert network.words[0] == "tench, Tinca tinca"
    assert (network.inputs["size"], network.inputs["resize"]) == (224, 256)
    assert network.inputs["mean"] == (0.485, 0.456, 0.406)


def test_published_weights_are_downloaded_with_progress_and_checked(
    ours: ModuleType,
    resnet18: tuple[Path, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    data = resnet18[0].read_bytes()
    weights = PUBLISHED["resnet18_swsl"]
    with serving({weights.file_name: data}) as server:
        error = error_of("resnet18_swsl", base_url=server.url)
        assert f"is not resnet18_swsl: its SHA-256 begins with {hashed(data)} instead of" in error
        known = ours._own("models.published").PUBLISHED
        changed = replace(known["resnet18_swsl"], sha256=hashed(data))
        monkeypatch.setitem(known, "resnet18_swsl", changed)
        capsys.readouterr()
        network = load("resnet18_swsl", base_url=server.url)
        assert f"\r100% of {len(data):,} bytes\n" in capsys.readouterr().err
        again = load("resnet18_swsl", False, base_url=server.url)
    assert len(server.requests) == 2
    assert capsys.readouterr().err == ""
    with torch.inference_mode():
        for loaded in (network, again):
            assert torch.equal(loaded(IMAGES_BCHW), resnet18[1])


def hashed(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def test_published_weights_of_another_network_are_refused(
    resnet18: tuple[Path, torch.Tensor],
) -> None:
    error = error_of("resnet50_ssl", path=str(resnet18[0]))
    assert error.startswith(f"{resnet18[0]} does not fit the network: 165 missing (")


class Payload:
    """What a file that runs code when it is unpickled holds."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("executed",))


def test_nothing_in_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.bias": Payload()}, "bad.pth")
    assert "bad.pth cannot be read as weights" in error_of("resnet18_ssl", path="bad.pth")
    (tmp_path / "torn.pth").write_bytes(b"PK")
    assert "torn.pth cannot be read as weights" in error_of("resnet18_ssl", path="torn.pth")
    assert not (tmp_path / "executed").exists()


def test_published_weights_have_the_classes_that_they_have() -> None:
    error = error_of("resnet18_ssl", num_classes=10)
    assert error.startswith("resnet18_ssl takes progress, path and base_url, and not num_classes")


# What torch itself imports, or loads on a GPU. All else of this environment is hidden.
NEEDED_BY_TORCH = (
    *("torch", "torchgen", "functorch", "typing_extensions.py", "sympy", "mpmath", "networkx"),
    *("jinja2", "markupsafe", "filelock", "fsspec", "nvidia", "triton"),
)
# Another repository with a package of the same name, of which a part is imported late.
OTHER = {
    "hubconf.py": "from models.part import VALUE\ndependencies = ['torch']\n"
    "def theirs():\n    from models.late import late\n    return late(VALUE)\n",
    "models/__init__.py": "",
    "models/part.py": "VALUE = 41\n",
    "models/late.py": "def late(value):\n    import models.part\n    return value + 1\n",
}
IN_ORDER = """
import importlib.util, sys, torch
ours, other, folder, *order = sys.argv[1:]
for name in ("pydantic", "safetensors", "PIL", "numpy", "models"):
    assert importlib.util.find_spec(name) is None, name
kept = []
for step in order:
    if step == "theirs":
        assert torch.hub.load(other, "theirs", source="local") == 42
        assert sys.modules["models"].__file__.startswith(other)
    else:
        before = sys.modules.get("models")
        network = torch.hub.load(ours, "protege", folder, source="local")
        kept += [network, torch.hub.load(ours, "small_resnet_16", 3, source="local")]
        assert sys.modules.get("models") is before
for network in kept:
    assert network.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 3)
    assert type(network.with_new_head(2)) is type(network)
assert kept[0].classes == ("blue", "green", "red"), kept[0].classes
"""


@pytest.mark.parametrize("order", [("ours", "theirs", "ours"), ("theirs", "ours", "theirs")])
def test_with_torch_alone_beside_another_repository_with_models(
    order: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    for name, text in OTHER.items():
        (tmp_path / "other" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "other" / name).write_text(text)
    packages = tmp_path / "packages"
    packages.mkdir()
    for name in NEEDED_BY_TORCH:
        found = Path(torch.__file__).parents[1] / name
        if found.exists():
            (packages / name).symlink_to(found)
    # -S: no site-packages, and so none of the paths that an installed protege adds.
    command = [sys.executable, "-S", "-W", "ignore", "-c", IN_ORDER]
    arguments = [str(ROOT), str(tmp_path / "other"), str(folder), *order]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(packages), "HOME": str(tmp_path)}
    done = subprocess.run(
        [*command, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=EVENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
