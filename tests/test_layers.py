"""Who imports whom: flows -> tasks -> models, infra; a stage knows of others only their surface."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    "flows": {"flows", "tasks", "models", "infra"},
    "tasks": {"tasks", "models", "infra"},
    "models": {"models"},
    "infra": {"infra"},
}
STAGES = {"shard", "train", "score", "topk", "tags", "agreement", "gather", "evaluate", "report"}
# What is no stage, though it lies beside them: every stage may use all of it.
SHARED = {
    "contract",
    "images",
    "duplicates",
    "inference",
    "options",
    "tables",
    "estimate",
    "cost",
    "compiling",
}
PREFECT = ("flows/engine", "flows/operate", "flows/retrain")
RECIPES = ("flows/billion_scale", "flows/semi_weakly", "flows/simclr_v2", "flows/noisy_student")


def modules(path: Path) -> Iterator[str]:
    """The modules that a file imports, as dotted names; `from a import b` gives a.b as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(path: Path) -> set[str]:
    return {module.split(".")[0] for module in modules(path)}


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, folder
    return found


def stage_of(path: Path) -> str:
    """The stage that a file below tasks/ belongs to, or the name of what is no stage."""
    return path.relative_to(ROOT / "tasks").parts[0].removesuffix(".py")


@pytest.mark.parametrize("folder", LAYERS)
def test_folder_imports_only_what_lies_below_it(folder: str) -> None:
    for path in files(folder):
        assert tops(path) & set(LAYERS) <= LAYERS[folder], path


def test_prefect_is_imported_only_by_the_engine_the_server_and_retraining() -> None:
    for folder in ("flows", "tasks", "models", "infra"):
        for path in files(folder):
            if not str(path.relative_to(ROOT)).startswith(PREFECT):
                assert "prefect" not in tops(path), path


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_knows_neither_prefect_nor_the_engine(recipe: str) -> None:
    for path in files(recipe):
        assert not {"prefect"} & tops(path), path
        above = [name for name in modules(path) if name.startswith(("flows.engine", "flows.oper"))]
        assert not above, path


@pytest.mark.parametrize("folder", ["flows/campaign", "flows/engine"])
def test_what_runs_a_recipe_knows_nothing_of_the_server(folder: str) -> None:
    for path in files(folder):
        assert not [name for name in modules(path) if name.startswith("flows.operate")], path


@pytest.mark.parametrize("shared", ["contract", "images", "options.py", "tables.py"])
def test_what_every_stage_uses_imports_no_stage(shared: str) -> None:
    folder = ROOT / "tasks" / shared
    for path in [folder] if folder.is_file() else files(f"tasks/{shared}"):
        for module in modules(path):
            assert not (module.startswith("tasks.") and module.split(".")[1] in STAGES), path


def test_a_stage_uses_of_another_one_only_what_its_package_exports() -> None:
    for path in files("tasks"):
        for module in modules(path):
            parts = module.split(".")
            foreign = parts[0] == "tasks" and len(parts) > 1 and parts[1] in STAGES
            if foreign and parts[1] != stage_of(path) and len(parts) > 2:
                package = ROOT / "tasks" / parts[1] / "__init__.py"
                assert not (package.parent / f"{parts[2]}.py").exists(), f"{path}: {module}"


def test_nothing_that_runs_by_default_imports_torchvision() -> None:
    for folder in LAYERS:
        for path in files(folder):
            assert "torchvision" not in tops(path), path
